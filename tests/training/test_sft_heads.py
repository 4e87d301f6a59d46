import numpy as np
import pytest
import torch

from pixelis_pipeline.records import Action, Media, Step
from pixelis_pipeline.tools.masks import encode
from training.sft.aims import GRID, PROPERTIES, UNKNOWN, aims
from training.sft.heads import Heads, dice

PICTURE = Media("0" * 64, "image", "a.png", 64, 64)
VIDEO = Media("1" * 64, "video", "a.mp4", 64, 64, frames=40, fps=4.0)
WIDTH = 24
KINDS = ("box", "span", "mask", "properties")


def step(action: str, **replayed) -> Step:
    return Step("", Action(action, {}), {}, replayed=replayed)


def corner() -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    mask[:32, :16] = True
    return mask


def test_what_seg_found_is_a_box_and_the_share_of_each_cell():
    made = aims(step("SEG", box=[0, 0, 250, 500], area=125, mask=encode(corner())), PICTURE)
    assert made["box"] == pytest.approx(np.array([0, 0, 250, 500]) / 999)
    assert made["mask"].shape == (GRID, GRID)
    assert made["mask"][: GRID // 2, : GRID // 4].min() == 1.0
    assert made["mask"].sum() == GRID // 2 * GRID // 4


def test_a_track_ends_where_the_thing_was_last_seen():
    boxes = [[0, 0, 9, 9], [99, 0, 108, 9], None]
    assert aims(step("TRK", start=0, end=2, boxes=boxes), VIDEO)["box"] == pytest.approx(
        np.array(boxes[1]) / 999
    )
    assert aims(step("TRK", start=0, end=0, boxes=[None]), VIDEO) == {}


def test_a_span_is_a_share_of_the_video():
    assert aims(step("TEMP", start=2.5, end=5.0), VIDEO)["span"].tolist() == [0.25, 0.5]
    assert aims(step("TEMP", start=2.5, end=5.0), PICTURE) == {}


def test_properties_are_classes_and_a_strange_word_is_none():
    said = {"colour": "blue", "shape": "heptagon", "size": "large", "count": 40}
    made = aims(step("PROP", **said), PICTURE)["properties"].tolist()
    assert made == [
        PROPERTIES["colour"].index("blue"),
        UNKNOWN,
        2,
        9,
    ]


def test_reading_and_enlarging_leave_the_heads_nothing_to_say():
    assert aims(step("OCR", text="a", lines=[]), PICTURE) == {}
    assert aims(step("ZOOM", image=1, width=1, height=1, sha256=""), PICTURE) == {}


def test_heads_have_one_layer_of_256_and_follow_from_their_seed():
    one, same, other = Heads(WIDTH, 7), Heads(WIDTH, 7), Heads(WIDTH, 8)
    assert {part[0].out_features for part in one.by_kind.values()} == {256}
    for a, b, c in zip(one.parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b) and not torch.equal(a, c)
    before = torch.random.get_rng_state()
    Heads(WIDTH, 9)
    assert torch.equal(before, torch.random.get_rng_state())


def test_dice_of_the_mask_itself_is_nothing_and_of_its_opposite_nearly_all():
    told = torch.tensor(corner().reshape(1, -1), dtype=torch.float32)
    assert dice(told, told).item() == pytest.approx(0, abs=1e-6)
    assert dice(1 - told, told).item() > 0.99
    assert dice(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0


def planted(count: int) -> tuple[torch.Tensor, list]:
    """Hidden states that hold what the heads are to say: every kind in turn."""
    random = np.random.default_rng(5)
    hidden = torch.from_numpy(random.standard_normal((count, WIDTH)).astype(np.float32))
    told = []
    for k, row in enumerate(hidden):
        share = torch.sigmoid(row[:4]).numpy()
        mask = np.zeros((GRID, GRID), np.float32)
        mask[:, : GRID // 2] = float(row[0] > 0)
        mask[:, GRID // 2 :] = float(row[0] <= 0)
        classes = np.array([int(row[n] > 0) for n in range(4)])
        made = {"box": share, "span": share[:2], "mask": mask, "properties": classes}
        told.append({KINDS[k % 4]: made[KINDS[k % 4]]})
    return hidden, told


def test_every_head_learns_what_its_hidden_states_hold():
    hidden, told = planted(160)
    heads = Heads(WIDTH, 7)
    optimizer = torch.optim.AdamW(heads.parameters(), lr=1e-2)

    def by_kind() -> dict[str, float]:
        with torch.inference_mode():
            return {kind: heads.loss(hidden[n::4], told[n::4]).item() for n, kind in enumerate(KINDS)}

    before = by_kind()
    for _ in range(60):
        optimizer.zero_grad()
        heads.loss(hidden, told).backward()
        optimizer.step()
    after = by_kind()
    assert all(after[kind] < before[kind] / 3 for kind in before), (before, after)


def test_the_loss_is_the_sum_over_kinds_and_nothing_without_any():
    hidden, told = planted(8)
    heads = Heads(WIDTH, 7)
    whole = heads.loss(hidden, told).item()
    assert whole == pytest.approx(
        sum(heads.loss(hidden[n::4], told[n::4]).item() for n in range(4)), rel=1e-5
    )
    assert heads.loss(hidden[:0], []).item() == 0
    strange = [{"properties": np.full(4, UNKNOWN)}]
    assert heads.loss(hidden[:1], strange).item() == 0
