"""The heads on planted transitions: what can be learned is, what cannot is bounded, all from the seed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pixelis_pipeline.settings import HeadSettings, RewardSettings
from training.rft.rewards import curiosity
from training.rft.states import States

HIDDEN = 24
QUICK = HeadSettings(width=128, embedding=64, learning_rate=3e-3)


def heads(settings: HeadSettings = QUICK):
    from training.rft.heads import Heads

    return Heads(HIDDEN, settings)


def rollout(seed: int, steps: int = 3, lawful: bool = True) -> States:
    """What a call sees follows from what was seen before and from its box alone, or from nothing. Calls of
    tool 5 are invalid."""
    random = np.random.default_rng(seed)
    law = np.random.default_rng(0).standard_normal((HIDDEN + 4, HIDDEN)).astype(np.float32)
    tool, box = random.integers(0, 6, steps), random.uniform(0, 1, (steps, 4)).astype(np.float32)
    rows = [random.standard_normal(HIDDEN).astype(np.float32)]
    for k in range(steps):
        follows = np.tanh(np.concatenate([rows[-1], 3 * box[k]]) @ law / 3)
        rows.append(follows if lawful else random.standard_normal(HIDDEN).astype(np.float32))
    v = np.array(rows)
    x = random.standard_normal(v.shape).astype(np.float32)
    texts = tuple(f"{seed} {k}" for k in range(steps))
    names, shown = tuple(f"tool {k}" for k in tool), np.tile(rows[0], (64, 1))
    return States("count", texts, names, tool < 5, np.arange(steps), v, x, tool, box, box, shown)


def learned(lawful: bool, updates: int = 300):
    head = heads()
    for k in range(updates):
        head.update([rollout(40 * k + n, lawful=lawful) for n in range(40)])
    return head


@pytest.fixture(scope="module")
def wise():
    return learned(lawful=True)


def unseen(lawful: bool = True) -> list[States]:
    return [rollout(10**6 + n, lawful=lawful) for n in range(60)]


def judged(head, batch: list[States]):
    return head.judge(batch, [True] * len(batch))


def mean(found, name: str) -> float:
    return float(np.concatenate([getattr(each, name) for each in found]).mean())


def test_a_planted_transition_is_learned_and_noise_is_not(wise) -> None:
    before, after = judged(heads(), unseen()), judged(wise, unseen())
    assert mean(after, "error") < 0.6 * mean(before, "error")
    noise = judged(learned(lawful=False, updates=100), unseen(lawful=False))
    assert mean(noise, "error") > 0.9  # its variance is 1, and nothing foretells it


def test_the_head_knows_what_it_cannot_know(wise) -> None:
    """Of noise it expects an error as large as it makes, so noise is no news; of what it foretells, less."""
    noise = judged(learned(lawful=False), unseen(lawful=False))
    assert mean(noise, "expected") == pytest.approx(mean(noise, "error"), rel=0.2)
    assert mean(judged(wise, unseen()), "expected") < 0.75 * mean(noise, "expected")


def test_validity_is_learned(wise) -> None:
    found = judged(wise, unseen())
    logits, valid = (
        np.concatenate([getattr(each, name) for each in found]) for name in ("validity", "valid")
    )
    assert ((logits > 0) == valid).mean() > 0.97


def test_what_cannot_be_predicted_pays_no_more_than_the_batch_allows(wise) -> None:
    """Noise a hundred times louder than anything known, in 3 of 180 steps. Without clip and gate it would
    earn thousands of times as much."""
    honest = unseen()[1:]
    noise = rollout(77, lawful=False)
    found = judged(wise, [replace(noise, v=100 * noise.v), *honest])
    settings = RewardSettings()
    paid = curiosity(found, settings)
    free = curiosity(found, settings.model_copy(update={"gate": 0.0, "clip_percentile": 100.0}))
    assert free[0] > 1000 * free[1:].mean()
    assert paid[0] <= max((each.error / each.expected)[each.fresh].max() for each in found[1:])


def test_the_same_seed_gives_the_same_bits_and_draws_no_one_elses_numbers(tmp_path: Path) -> None:
    import torch

    def run(noisy: bool):
        head = heads()
        for k in range(4):
            if noisy:
                torch.rand(k + 1)
            loss = head.update([rollout(9 * k + n) for n in range(60)])
        return head, loss, judged(head, unseen())

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, loss, found = run(noisy=False)
    assert torch.equal(torch.rand(3), expected)
    other, again, same = run(noisy=True)
    assert loss == again and one.digest == other.digest
    for a, b in zip(found, same, strict=True):
        assert all(
            (getattr(a, n) == getattr(b, n)).all() for n in ("embeddings", "error", "variance", "validity")
        )
    assert heads(QUICK.model_copy(update={"seed": 8})).digest != heads().digest


def test_a_saved_state_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    batches = [[rollout(9 * k + n) for n in range(30)] for k in range(6)]
    whole, first, second = heads(), heads(), heads(QUICK)
    for batch in batches:
        whole.update(batch)
    for batch in batches[:3]:
        first.update(batch)
    first.save(tmp_path / "heads.safetensors")
    second.load(tmp_path / "heads.safetensors")
    for batch in batches[3:]:
        second.update(batch)
    assert second.updates == 6 and second.digest == whole.digest
    for a, b in zip(judged(whole, unseen()), judged(second, unseen()), strict=True):
        assert (a.error == b.error).all() and (a.variance == b.variance).all()
    with pytest.raises(ValueError, match="holds heads of"):
        heads(QUICK.model_copy(update={"width": 32})).load(tmp_path / "heads.safetensors")


def test_what_is_said_of_a_rollout_does_not_depend_on_the_others(wise) -> None:
    alone, among = judged(wise, unseen()[:1])[0], judged(wise, unseen()[::-1])[-1]
    for name in ("embeddings", "error", "variance", "validity"):
        assert getattr(alone, name) == pytest.approx(getattr(among, name), rel=1e-3, abs=1e-5)
    assert np.linalg.norm(alone.embeddings, axis=1) == pytest.approx(np.ones(3), abs=1e-5)


def test_the_embedding_stands_still_and_the_dynamics_moves() -> None:
    head = heads()
    before, start = judged(head, unseen()), head.digest
    assert head.update([rollout(1)]).steps == 3
    after = judged(head, unseen())
    assert head.digest == start and (before[0].embeddings == after[0].embeddings).all()
    assert mean(before, "error") != mean(after, "error")


def test_an_update_takes_a_batch_of_steps_and_none_of_nothing() -> None:
    head = heads()
    assert head.update([rollout(n) for n in range(60)]).steps == 128
    assert head.update([]) is None
    assert head.update([rollout(1, steps=0)]) is None and head.updates == 1
    (silent, spoken) = judged(head, [rollout(1, steps=0), rollout(2)])
    assert silent.embeddings.shape == (0, 64) and spoken.error.shape == (3,)
    assert head.judge([], []) == []


def test_what_an_invalid_call_would_have_seen_is_not_learned() -> None:
    one = replace(rollout(3, steps=2), valid=np.array([True, False]))
    other = replace(one, v=one.v + np.array([[0], [0], [5]], np.float32))
    assert heads().update([one]) == heads().update([other])
    strayed = replace(other, valid=np.array([True, True]))
    assert heads().update([strayed]).error > heads().update([replace(one, valid=strayed.valid)]).error


def test_steps_that_are_left_out_are_nothing() -> None:
    """A rollout whose second step made the first one's call again."""
    head, whole = heads(), rollout(4)
    again = replace(
        whole,
        calls=(whole.calls[0], whole.calls[0], *whole.calls[1:]),
        valid=whole.valid[[0, 0, 1, 2]],
        kept=np.array([0, 2, 3]),
    )
    one, other = judged(head, [whole, again])
    assert not other.error[1] and not other.embeddings[1].any()
    for name in ("embeddings", "error", "variance", "validity"):
        assert getattr(one, name) == pytest.approx(getattr(other, name)[[0, 2, 3]], rel=1e-4, abs=1e-6)
