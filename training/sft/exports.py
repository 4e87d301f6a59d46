"""What later phases take from SFT beside the weights: heads, adapter, token normalisers, a scaler a tool.

The normalisers are the running mean and variance of the log-probability and of the entropy of the policy's
own tokens, in nats. The scalers are `training.sft.scalers`, the calibrators of its confidence
`training.sft.calibrators`. The z-statistics of coherence, which the paper has here too, are
`training.rft.scales`.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch  # noqa: TID253
from safetensors.torch import save_file

from pixelis_pipeline.ledger.files import sha256
from pixelis_pipeline.records import Json
from training import frozen
from training.sft import scalers
from training.sft.heads import Heads
from training.sft.objective import lesson, told
from training.sft.pool import Pool

Array = np.ndarray[Any, Any]

HEADS, NORMALISERS = "heads.safetensors", "normalisers.json"
ADAPTER = "adapter"  # a folder as peft loads it


@dataclass(slots=True)
class Moments:
    """Count, mean and sum of squared deviations of what was added so far."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: Array) -> None:
        """Take in more values [n] (Chan, Golub and LeVeque 1979, pairwise update)."""
        if not len(values):
            return
        mean, count = float(values.mean(dtype=np.float64)), self.count + len(values)
        apart = mean - self.mean
        self.squares += float(np.square(values - mean, dtype=np.float64).sum())
        self.squares += apart * apart * self.count * len(values) / count
        self.mean += apart * len(values) / count
        self.count = count

    def told(self) -> Json:
        """As JSON; the variance is the population's, 0 for nothing."""
        return {
            "count": self.count,
            "mean": self.mean,
            "variance": self.squares / self.count if self.count else 0.0,
        }


def statistics(model: Any, measured: Pool, size: int) -> tuple[Json, Json]:
    """(token normalisers, scalers by action) of a policy on a pool, `size` at a time."""
    chance, entropy = Moments(), Moments()
    calls: dict[str, Moments] = defaultdict(Moments)
    for part in measured.parts(size):
        with torch.inference_mode():
            said, _ = told(model, lesson(part, model.device))
            given = said.scores.gather(1, said.ids[:, None])[:, 0].double().cpu().numpy()
            entropy.add(-(said.scores.exp() * said.scores).sum(-1).double().cpu().numpy())
        chance.add(given)
        ends = np.cumsum([np.count_nonzero(each.weights[1:]) for each in part.examples])
        for each, row in zip(part.examples, np.split(given, ends[:-1]), strict=True):
            whole = np.zeros(len(each.ids))
            whole[1:][each.weights[1:] > 0] = row
            for turn in each.turns:
                if each.weights[turn.call].any():
                    calls[turn.action].add(-whole[turn.call])
    surprise = {action: (each.count, each.mean) for action, each in calls.items()}
    return {"log_probability": chance.told(), "entropy": entropy.told()}, scalers.scalers(surprise)


def write(folder: Path, heads: Heads, normalisers: Json, scales: Json) -> Json:
    """Write the three files to `folder`; gives the sha256 of each by name."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: weight.detach().contiguous() for name, weight in heads.named_parameters()}, folder / HEADS
    )
    frozen.write(folder / NORMALISERS, normalisers)
    frozen.write(folder / scalers.FILE, scales)
    return {name: sha256(folder / name) for name in (HEADS, NORMALISERS, scalers.FILE)}


def write_adapter(folder: Path, model: Any) -> Json:
    """Write the adapter of a peft model to `folder`/adapter as safetensors; gives the sha256 of its files."""
    from peft import get_peft_model_state_dict

    (folder / ADAPTER).mkdir(parents=True, exist_ok=True)
    weights = {name: each.detach().contiguous() for name, each in get_peft_model_state_dict(model).items()}
    save_file(weights, folder / ADAPTER / "adapter_model.safetensors", metadata={"format": "pt"})
    model.peft_config["default"].save_pretrained(folder / ADAPTER)
    files = sorted((folder / ADAPTER).iterdir())
    return {f"{ADAPTER}/{path.name}": sha256(path) for path in files}
