"""Cases tried, and judged by the tolerances that replay allows two runs of one call."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from evaluation.statistics import Interval, clopper_pearson
from evaluation.tools.case import Case
from pixelis_pipeline.records import Json
from pixelis_pipeline.settings import ReplaySettings
from pixelis_pipeline.tools.contract import Observation, ToolCrash
from pixelis_pipeline.tools.registry import Registry
from pixelis_pipeline.verify.metrics import mask_iou, plain, similarity, span_iou
from pixelis_pipeline.verify.tracking import hota

RULES = ReplaySettings()


@dataclass(frozen=True, slots=True)
class Trial:
    """One judged call. `score` is the tool's metric: IoU, HOTA, ANLS, tIoU, or 1 where all is equal;
    `missed` names what was wrong."""

    tool: str
    kind: Mapping[str, str]
    score: float
    right: bool
    missed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Audited:
    """All trials of one tool, and the version that answered."""

    tool: str
    version: str
    trials: Sequence[Trial] = field(repr=False)

    @property
    def failures(self) -> int:
        return sum(not trial.right for trial in self.trials)

    @property
    def rate(self) -> Interval:
        """The share that failed, with its exact 95 % interval (Clopper & Pearson)."""
        return clopper_pearson(self.failures, len(self.trials))

    @property
    def mean(self) -> float:
        return float(np.mean([trial.score for trial in self.trials]))


def _seg(truth: Json, seen: Observation) -> tuple[float, tuple[str, ...]]:
    assert seen.mask is not None
    score = mask_iou(truth["mask"], seen.mask)
    return score, () if score >= RULES.seg_iou else (f"IoU below {RULES.seg_iou}",)


def _trk(truth: Json, seen: Observation) -> tuple[float, tuple[str, ...]]:
    score = hota(truth["boxes"], seen.output["boxes"])
    return score, () if score >= RULES.trk_hota else (f"HOTA below {RULES.trk_hota}",)


def _ocr(truth: Json, seen: Observation) -> tuple[float, tuple[str, ...]]:
    score = similarity(plain(truth["text"]), plain(seen.output["text"]))
    return score, () if score >= RULES.ocr_anls else (f"ANLS below {RULES.ocr_anls}",)


def _zoom(truth: Json, seen: Observation) -> tuple[float, tuple[str, ...]]:
    missed = tuple(name for name in truth if seen.output[name] != truth[name])
    return float(not missed), missed


def _temp(truth: Json, seen: Observation) -> tuple[float, tuple[str, ...]]:
    said, true = ((each["start"], each["end"]) for each in (seen.output, truth))
    score = span_iou(true, said)
    off = max(abs(a - b) for a, b in zip(true, said, strict=True))
    near = score >= RULES.temp_iou or off <= RULES.temp_seconds
    return score, () if near else (f"tIoU below {RULES.temp_iou}",)


def _prop(truth: Json, seen: Observation) -> tuple[float, tuple[str, ...]]:
    """Words and the count equal; orientation within 5 % of a half turn, as far as the shape shows it; area
    within 5 % and never stricter than its own rounding."""
    said, slack = seen.output, RULES.prop_number_tolerance
    missed: list[str] = [
        name for name in ("colour", "shape", "size", "count") if name in truth and said[name] != truth[name]
    ]
    if "orientation" in truth:
        apart = (said["orientation"] - truth["orientation"]) % truth["period"]
        if min(apart, truth["period"] - apart) > slack * 180:
            missed.append("orientation")
    if "area" in truth and abs(said["area"] - truth["area"]) > max(1.0, slack * truth["area"]):
        missed.append("area")
    return float(not missed), tuple(missed)


JUDGES: Mapping[str, Callable[[Json, Observation], tuple[float, tuple[str, ...]]]] = {
    "SEG": _seg,
    "TRK": _trk,
    "OCR": _ocr,
    "ZOOM": _zoom,
    "TEMP": _temp,
    "PROP": _prop,
}


def trial(registry: Registry, case: Case) -> Trial:
    """Run a case's calls and judge the last. No answer is a failure, and so is a backend that breaks."""
    workspace = case.workspace()
    try:
        for call in case.calls:
            seen = registry.call(workspace, call)
    except ToolCrash as error:
        return Trial(case.tool, case.kind, 0.0, False, (f"broke: {error}",))
    if not seen.valid:
        return Trial(case.tool, case.kind, 0.0, False, (f"no answer: {seen.output['error']}",))
    score, missed = JUDGES[case.tool](case.truth, seen)
    return Trial(case.tool, case.kind, score, not missed, missed)


def audit(registry: Registry, cases: Iterable[Case]) -> list[Audited]:
    """Every case tried, by tool, in the order in which the tools come."""
    tried: dict[str, list[Trial]] = defaultdict(list)
    for case in cases:
        tried[case.tool].append(trial(registry, case))
    return [Audited(tool, registry.versions.get(tool, ""), trials) for tool, trials in tried.items()]
