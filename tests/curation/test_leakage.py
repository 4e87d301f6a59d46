"""The audit against planted leaks of every kind, and the interval against its closed form."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from pixelis_pipeline.columns import from_table, to_table
from pixelis_pipeline.curation.evaluation_twins import against, by_pixels, hits, leaks, same_by_pixels
from pixelis_pipeline.curation.leakage import LeakageError, LeakageReport, audit, clopper_pearson
from pixelis_pipeline.curation.verdict import Judge
from pixelis_pipeline.records import Accepted, Media, Origin, Rejected, Sample
from pixelis_pipeline.settings import CurationSettings
from pixelis_pipeline.sources.whitelist import WhitelistEntry, whitelist

ASKED = "How many circles are there?"


class Benchmark:
    """Held-out items over pictures of the gallery."""

    def __init__(self, gallery: Any, settings: CurationSettings, items: Sequence[tuple[Media, str, str]]):
        samples = [
            Sample(
                f"s{k}",
                Origin("vstar", f"vstar-{k}", "test", "evaluation"),
                (media,),
                question=text,
                answer=answer,
            )
            for k, (media, text, answer) in enumerate(items)
        ]
        self.entries: list[WhitelistEntry] = list(whitelist(samples, gallery.pixels, gallery.frames))
        held = {media.sha256: media for media, _, _ in items}
        self.look = by_pixels(held, same_by_pixels(Judge(settings, gallery.pixels, gallery.frames)))


def planted(gallery: Any) -> dict[str, tuple[Media, str, str]]:
    """Training items by name: what each shares with the one evaluation item of its picture."""
    full, plain = gallery.scene(1, ground="photograph"), gallery.print(2)
    return {
        "same bytes": (gallery.image(full), "Which colour?", "red"),
        "re-encoded": (gallery.image(gallery.encoded(full)), "Which colour?", "red"),
        "re-encoded print": (gallery.image(gallery.encoded(plain)), "Which word?", "garden"),
        "other picture, same question and answer": (gallery.image(gallery.scene(5)), ASKED, "3"),
        "other picture, same answer": (gallery.image(gallery.scene(6)), "How many stars?", "3"),
        "nothing": (gallery.image(gallery.scene(7)), "How many hexagons?", "5"),
    }


def fingerprints(gallery: Any, items: dict[str, tuple[Media, str, str]]) -> dict[str, Any]:
    return {
        name: gallery.fingerprint(gallery.trajectory(media, text=text, answer=answer, name=name))
        for name, (media, text, answer) in items.items()
    }


def held_out(gallery: Any) -> list[tuple[Media, str, str]]:
    return [
        (gallery.image(gallery.scene(1, ground="photograph")), ASKED, "3"),
        (gallery.image(gallery.print(2)), "What is the third word?", "river"),
    ]


def test_media_leak_whatever_is_asked(gallery: Any, settings: CurationSettings) -> None:
    benchmark = Benchmark(gallery, settings, held_out(gallery))
    found = fingerprints(gallery, planted(gallery))
    outcomes = against(list(found.values()), benchmark.entries, settings, benchmark.look)
    removed = {o.of: o for o in outcomes if isinstance(o, Rejected)}
    names = {name for name, f in found.items() if f.id in removed}
    assert names == {"same bytes", "re-encoded", "re-encoded print"}
    assert {o.rule for o in removed.values()} == {"evaluation twin"}
    assert removed[found["same bytes"].id].twin == benchmark.entries[0].id
    assert removed[found["re-encoded print"].id].twin == benchmark.entries[1].id
    assert [o.of for o in outcomes] == [f.id for f in found.values()]


def test_audit_blocks_naming_both_and_passes_what_was_kept(gallery: Any, settings: CurationSettings) -> None:
    benchmark = Benchmark(gallery, settings, held_out(gallery))
    found = fingerprints(gallery, planted(gallery))
    everything = [f.trajectory for f in found.values()]
    report = audit(everything, benchmark.entries, settings, benchmark.look)
    assert report.blocking == {"vstar": 3}
    with pytest.raises(LeakageError) as stop:
        report.require_clean()
    assert report.hits[0].of in str(stop.value)
    assert report.hits[0].record in str(stop.value)
    passed = against(list(found.values()), benchmark.entries, settings, benchmark.look)
    kept = [record.trajectory for o in passed if isinstance(o, Accepted) for record in o.records]
    clean = audit(kept, benchmark.entries, settings, benchmark.look)
    clean.require_clean()
    assert clean.found == 0
    assert clean.residual[1] < 1e-4
    assert clean.pairs["question+answer"] == 1
    assert clean.training_digest != report.training_digest
    assert clean.evaluation_digest == report.evaluation_digest
    assert from_table(LeakageReport, to_table(LeakageReport, [report])) == [report]


def test_every_combination_is_counted(gallery: Any, settings: CurationSettings) -> None:
    benchmark = Benchmark(gallery, settings, held_out(gallery))
    items = planted(gallery)
    picture = items["same bytes"][0]
    items |= {"all three": (picture, ASKED, "3"), "media and question": (picture, ASKED.upper(), "4")}
    trajectories = [f.trajectory for f in fingerprints(gallery, items).values()]
    pairs = audit(trajectories, benchmark.entries, settings, benchmark.look).pairs
    assert pairs["media"] == 5
    assert pairs["media+question"] == 2
    assert pairs["media+answer"] == pairs["media+question+answer"] == 1
    assert pairs["question"] == 3
    assert pairs["answer"] == 3
    assert pairs["question+answer"] == 2


def test_print_alike_by_hash_alone_blocks_only_with_its_question_and_answer(
    gallery: Any, settings: CurationSettings
) -> None:
    """A distinct page within 8 bits: pixels refute it, unless the same is asked and answered of both."""
    pages = [gallery.image(gallery.print(seed)) for seed in range(60)]
    found = [gallery.fingerprint(gallery.trajectory(media)).trajectory for media in pages]
    value = [int(t.phash[0], 16) for t in found]
    a, b = next((a, b) for a in range(60) for b in range(a) if (value[a] ^ value[b]).bit_count() <= 8)
    for text, blocks in (("How many words?", False), (ASKED, True)):
        benchmark = Benchmark(gallery, settings, [(pages[a], text, "3")])
        (hit,) = hits([found[b]], benchmark.entries, settings, benchmark.look)
        assert hit.signals[0] == "media-like"
        assert hit.blocks is blocks


def test_join_and_single_pairs_agree(gallery: Any, settings: CurationSettings) -> None:
    """The indexed search and the rule written out for one pair say the same of every pair."""
    benchmark = Benchmark(gallery, settings, held_out(gallery))
    trajectories = [f.trajectory for f in fingerprints(gallery, planted(gallery)).values()]
    met = hits(trajectories, benchmark.entries, settings, benchmark.look)
    blocking = {(hit.of, hit.entry) for hit in met if hit.blocks}
    assert blocking == {
        (t.id, e.id) for t in trajectories for e in benchmark.entries if leaks(t, e, settings, benchmark.look)
    }


def test_report_does_not_depend_on_order(gallery: Any, settings: CurationSettings) -> None:
    benchmark = Benchmark(gallery, settings, held_out(gallery))
    trajectories = [f.trajectory for f in fingerprints(gallery, planted(gallery)).values()]
    report = audit(trajectories, benchmark.entries, settings, benchmark.look)
    assert report == audit(trajectories[::-1], benchmark.entries[::-1], settings, benchmark.look)


def test_spot_check_finds_what_is_there(gallery: Any, settings: CurationSettings) -> None:
    """3 of 12 pairs leak: the exact interval of the draws holds 1/4."""
    benchmark = Benchmark(gallery, settings, held_out(gallery))
    trajectories = [f.trajectory for f in fingerprints(gallery, planted(gallery)).values()]
    small = settings.model_copy(update={"spot_check": 2000})
    report = audit(trajectories, benchmark.entries, small, benchmark.look)
    assert report.checked == 2000
    low, high = report.residual
    assert low < 3 / 12 < high
    assert audit([], benchmark.entries, small, benchmark.look).residual == (0.0, 1.0)


def test_clopper_pearson() -> None:
    """The specification's figure, the closed form at 0, and the definition: each tail is alpha / 2."""
    low, high = clopper_pearson(0, 50_216, 0.95)
    assert low == 0.0
    assert round(high * 100, 4) == 0.0073
    assert high == pytest.approx(1 - 0.025 ** (1 / 50_216))
    assert clopper_pearson(5, 5, 0.9)[1] == 1.0
    low, high = clopper_pearson(7, 40, 0.95)
    assert binom.sf(6, 40, low) == pytest.approx(0.025)
    assert binom.cdf(7, 40, high) == pytest.approx(0.025)
    with pytest.raises(ValueError, match="no interval"):
        clopper_pearson(3, 2, 0.95)


def test_video_leaks_by_one_view(gallery: Any, settings: CurationSettings) -> None:
    frames = [gallery.scene(seed, ground="photograph") for seed in range(3)]
    others = [gallery.scene(seed, ground="photograph") for seed in range(10, 12)]
    benchmark = Benchmark(gallery, settings, [(gallery.video(frames), ASKED, "3")])
    clip = gallery.video([*others, gallery.encoded(frames[1])])
    trajectory = gallery.fingerprint(gallery.trajectory(clip, text="When?")).trajectory
    (hit,) = hits([trajectory], benchmark.entries, settings, benchmark.look)
    assert hit.blocks
    assert np.array(trajectory.information).min() >= settings.information_floor


def test_films_that_fade_in_from_black_do_not_meet_by_it(gallery: Any, settings: CurationSettings) -> None:
    """Else every such film meets every other and is decoded; the rule for one pair says the same."""
    black = np.zeros((320, 320, 3), np.uint8)
    films = [gallery.video([black, gallery.scene(seed, ground="photograph")]) for seed in (21, 22)]
    benchmark = Benchmark(gallery, settings, [(films[0], ASKED, "3")])
    other = gallery.fingerprint(gallery.trajectory(films[1], text="When?")).trajectory
    assert min(other.information) == 0.0
    asked = 0

    def look(trajectory: Any, entry: Any) -> bool:
        nonlocal asked
        asked += 1
        return benchmark.look(trajectory, entry)

    assert hits([other], benchmark.entries, settings, look) == [] and asked == 0
    assert not leaks(other, benchmark.entries[0], settings, look)
    same = gallery.fingerprint(gallery.trajectory(gallery.video([black, black]), text=ASKED)).trajectory
    assert [h.signals[0] for h in hits([same], benchmark.entries, settings, look)] == ["media-like"]
