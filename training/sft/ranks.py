"""LoRA ranks from data (specification section 3): the spectrum of what a full fine-tuning changed, a layer.

How each rank comes to be, in this order, so that `choose` can make it again from the spectra alone:

1. measured: the smallest r whose squared singular values hold `energy` of those of W_ft - W_0;
2. bounded to [least, most];
3. smoothed: the median over `window` neighbours in depth of the same kind of module, the window cut off at
   the ends, a half rounded up; then never more than the matrix' shorter side.

A layer may so get less than it measured: `kept` says what its rank holds.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from pixelis_pipeline.ledger.files import replace
from pixelis_pipeline.records import Json
from pixelis_pipeline.settings import RankSettings
from training.sft.spectrum import Spectrum, rank_of, spectrum

if TYPE_CHECKING:
    import torch

FLOOR = 1e-3  # of the largest singular value: what lies below is not drawn
RANKS, PICTURE = "ranks.json", "spectra.png"


class RankError(ValueError):
    """Checkpoints that cannot be compared, or a file of ranks that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One linear weight's spectrum; `measured` is its rank at the energy asked for (None: more than there are
    values), `rank` the chosen one, `kept` the share of the energy that this holds, at least."""

    spectrum: Spectrum
    measured: int | None
    rank: int
    kept: float


@dataclass(frozen=True, slots=True)
class Ranks:
    """A chosen rank for each module, by the name under which the checkpoints hold it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    settings: RankSettings
    layers: dict[str, Layer]

    def write(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        replace(path, _FORM.dump_json(self, indent=1) + b"\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` wrote. RankError where it is something else, or its ranks are not those that follow
        from its spectra."""
        try:
            found = _FORM.validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise RankError(f"{path} holds no ranks: {where}: {first['msg']}") from error
        spectra = {name: layer.spectrum for name, layer in found.layers.items()}
        if choose(spectra, found.settings) != found:
            raise RankError(f"{path}: its ranks are not those that follow from its spectra")
        return found


_FORM: TypeAdapter[Any] = TypeAdapter(Ranks)


def choose(spectra: Mapping[str, Spectrum], settings: RankSettings) -> Ranks:
    """Rank of each module: measured, bounded, smoothed."""
    measured = {name: rank_of(each, settings.energy) for name, each in spectra.items()}
    bounded = {
        name: settings.most if rank is None else min(max(rank, settings.least), settings.most)
        for name, rank in measured.items()
    }
    smoothed = smooth(bounded, settings.window)
    layers = {}
    for name, each in spectra.items():
        rank = min(smoothed[name], *each.shape)
        layers[name] = Layer(each, measured[name], rank, each.kept(rank))
    return Ranks(settings, layers)


def kind(name: str) -> str:
    """The kind of module: its name without its depth, the first number in it."""
    return re.sub(r"\.\d+\.", ".*.", name, count=1)


def depth(name: str) -> int:
    """The first number in a module's name, 0 where there is none."""
    found = re.search(r"\.(\d+)\.", name)
    return int(found[1]) if found else 0


def smooth(ranks: Mapping[str, int], window: int) -> dict[str, int]:
    """The median of each rank and its neighbours in depth of the same kind, `window` of them in all (odd),
    fewer at the ends; a half is rounded up."""
    smoothed = {}
    for _, names in _by_kind(ranks):
        row = [ranks[name] for name in names]
        for place, name in enumerate(names):
            near = row[max(place - window // 2, 0) : place + window // 2 + 1]
            smoothed[name] = int(np.ceil(np.median(near)))
    return {name: smoothed[name] for name in ranks}


def _by_kind(names: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The names of each kind, in the order of their depth."""
    ordered = sorted(names, key=lambda name: (kind(name), depth(name)))
    for each, group in groupby(ordered, kind):
        yield each, list(group)


def pattern(ranks: Ranks) -> Json:
    """The arguments of `peft.LoraConfig` that give each module its rank: `target_modules`, `rank_pattern`,
    `alpha_pattern`, and the largest rank as `r`.

    alpha / rank is `scale` in every layer, so that a server which knows one scale for all of them (vLLM) is
    right. A module is named from its stack on (`layers.3.mlp.up_proj`): what stands before it differs between
    a checkpoint and the model that is made of it (Qwen2.5-VL). RankError where two would share a name.
    """
    chosen = {_from_stack(name): layer.rank for name, layer in ranks.layers.items()}
    if len(chosen) < len(ranks.layers):
        raise RankError("modules of two stacks share their names from the stack on")
    keys = {re.escape(name): rank for name, rank in chosen.items()}
    scale, largest = ranks.settings.scale, max(chosen.values())
    return {
        "r": largest,
        "lora_alpha": scale * largest,
        "target_modules": sorted(chosen),
        "rank_pattern": keys,
        "alpha_pattern": {key: scale * rank for key, rank in keys.items()},
    }


def _from_stack(name: str) -> str:
    found = re.search(r"[^.]+\.\d+\..*", name)
    return found[0] if found else name.removeprefix("model.")


def study(
    base_folder: Path,
    tuned_folder: Path,
    out_folder: Path,
    settings: RankSettings,
    progress: Callable[[int, int], None] | None = None,
) -> Ranks:
    """Compare two checkpoints' linear weights, one matrix in memory at a time, and write `spectra.png` and,
    after it, `ranks.json` into `out_folder`.

    `progress` is told (matrices done, matrices in all). Raises RankError where a folder is no checkpoint, a
    weight is missing on one side or of another shape, or nothing is there that LoRA would adapt.
    """
    pairs = _pairs(base_folder, tuned_folder, settings.targets)
    spectra = {}
    for done, (name, before, after) in enumerate(pairs, 1):
        try:
            spectra[name] = spectrum(
                _read(before, name, settings.device),
                _read(after, name, settings.device),
                settings.energy,
                settings.most,
                settings.seed,
            )
        except ValueError as error:
            raise RankError(f"{name}: {error}") from error
        if progress is not None:
            progress(done, len(pairs))
    ranks = choose(spectra, settings)
    replace(out_folder / PICTURE, draw(ranks))
    ranks.write(out_folder / RANKS)
    return ranks


def _pairs(base: Path, tuned: Path, targets: Sequence[str]) -> list[tuple[str, Path, Path]]:
    """(module, file before, file after) of every 2-D weight that the targets name, seen from the headers."""
    before, after = (_matrices(folder, targets) for folder in (base, tuned))
    if not before and not after:
        raise RankError(f"neither {base} nor {tuned} holds a matrix of {', '.join(targets)}")
    if alone := sorted(set(before) ^ set(after)):
        there, lacks = (base, tuned) if alone[0] in before else (tuned, base)
        raise RankError(f"{len(alone)} weights on one side only: {alone[0]} is in {there}, not in {lacks}")
    for name, (_, shape) in before.items():
        if shape != after[name][1]:
            raise RankError(f"{name}: shapes differ: {shape} in {base}, {after[name][1]} in {tuned}")
    return [(name, before[name][0], after[name][0]) for name in sorted(before)]


def _matrices(folder: Path, targets: Sequence[str]) -> dict[str, tuple[Path, list[int]]]:
    """File and shape of each 2-D weight of a module whose last name is a target."""
    from safetensors import SafetensorError, safe_open

    found = {}
    for path in _shards(folder):
        try:
            with safe_open(path, "pt") as file:
                for key in file.keys():  # noqa: SIM118
                    module = key.removesuffix(".weight")
                    shape = file.get_slice(key).get_shape()
                    if module != key and module.rpartition(".")[2] in targets and len(shape) == 2:
                        found[module] = path, list(shape)
        except (SafetensorError, OSError) as error:
            raise RankError(f"{path} cannot be read: {error}") from error
    return found


def _shards(folder: Path) -> list[Path]:
    """The files that hold a checkpoint's weights: one, or those that its index names."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [folder / "model.safetensors"]
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        return [folder / Path(name).name for name in names]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RankError(f"{index} is no index of weights: {error!r}") from error


def _read(path: Path, module: str, device: str) -> "torch.Tensor":
    from safetensors import safe_open

    with safe_open(path, "pt", device=device) as file:
        return file.get_tensor(f"{module}.weight")


def draw(ranks: Ranks) -> bytes:
    """All spectra as a PNG: a panel a kind of module, a line a depth, a dot at the chosen rank."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    kinds = list(_by_kind(ranks.layers))
    columns = min(len(kinds), 4)
    rows = -(-len(kinds) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes in panels[len(kinds) :]:
        axes.remove()
    panels[0].set(xscale="log", yscale="log", ylim=(FLOOR, 1.5), yticks=(1e-3, 1e-2, 1e-1, 1))
    for axes, (each, names) in zip(panels, kinds, strict=False):
        axes.set_title(each.removeprefix("model."), fontsize=7)
        axes.minorticks_off()
        axes.tick_params(labelbottom=axes in panels[max(len(kinds) - columns, 0) :])
        for place, name in enumerate(names):
            layer = ranks.layers[name]
            heights = np.divide(layer.spectrum.values, max(layer.spectrum.values, default=1.0))
            colour = colormaps["viridis"](place / max(len(names) - 1, 1))
            axes.plot(range(1, len(heights) + 1), heights, color=colour, lw=1)
            if layer.rank <= len(heights):
                axes.plot(layer.rank, heights[layer.rank - 1], "o", color=colour, ms=4)
    figure.supxlabel("singular value (dark to bright: depth; dot: chosen rank)", fontsize=8)
    figure.supylabel("of the largest", fontsize=8)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=110, metadata={"Software": None})
    return drawn.getvalue()
