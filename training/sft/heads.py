"""Four auxiliary heads (specification section 3): having said a call, the policy should know what comes back.

A head reads the last hidden state at the token that closes a decisive call, before the observation is heard,
so that looking is learned and not copying. The paper feeds pooled visual features and the tool's confidence;
the hidden state has attended to the picture itself. The heads are no part of the policy: they are exported
beside it.
"""

from collections.abc import Sequence

import torch  # noqa: TID253
from torch.nn import functional as F  # noqa: TID253

from training.sft.aims import GRID, PROPERTIES, UNKNOWN, Aims, Kind

HIDDEN = 256
BETA = 0.1  # of a side or of the video: errors below count by their square
SIZES: dict[Kind, int] = {
    "box": 4,
    "span": 2,
    "mask": GRID * GRID,
    "properties": sum(map(len, PROPERTIES.values())),
}


class Heads(torch.nn.Module):
    """One hidden layer of 256 for each kind of output, the same for the same seed."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.by_kind = torch.nn.ModuleDict(
                {
                    kind: torch.nn.Sequential(
                        torch.nn.Linear(width, HIDDEN), torch.nn.GELU(), torch.nn.Linear(HIDDEN, size)
                    )
                    for kind, size in SIZES.items()
                }
            )

    def forward(self, hidden: torch.Tensor, kind: Kind) -> torch.Tensor:
        """What the head of a kind says [n, SIZES[kind]] of hidden states [n, width]: shares, or for
        properties the scores of all classes, one property after the other."""
        said = self.by_kind[kind](hidden.float())
        return said if kind == "properties" else said.sigmoid()

    def nothing(self, kinds: Sequence[Kind]) -> torch.Tensor | float:
        """0, to which the weights of the heads of these kinds contribute, as they do to a loss."""
        weights = [weight for kind in kinds for weight in self.by_kind[kind].parameters()]
        return 0.0 * torch.stack([weight.sum() for weight in weights]).sum() if weights else 0.0

    def loss(self, hidden: torch.Tensor, aims: Sequence[Aims]) -> torch.Tensor:
        """The sum over the kinds that occur of their mean losses; 0 where there is nothing to say.

        `hidden` [n, width], one row for each of `aims`.
        """
        total = hidden.new_zeros((), dtype=torch.float32)
        for kind in SIZES:
            rows = [row for row, each in enumerate(aims) if kind in each]
            if rows:
                told = torch.stack([torch.from_numpy(aims[row][kind]) for row in rows]).to(hidden.device)
                total = total + _loss(kind, self(hidden[rows], kind), told)
        return total


def _loss(kind: Kind, said: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    if kind == "mask":
        return dice(said, told.flatten(1))
    if kind == "properties":
        scores = said.split([len(words) for words in PROPERTIES.values()], dim=1)
        known = [(each, told[:, n]) for n, each in enumerate(scores) if (told[:, n] != UNKNOWN).any()]
        parts = [F.cross_entropy(each, classes, ignore_index=UNKNOWN) for each, classes in known]
        return torch.stack(parts).mean() if parts else said.new_zeros(())
    return F.smooth_l1_loss(said, told, beta=BETA)


def dice(said: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """Mean of 1 - 2 sum(p t) / (sum p + sum t) over rows [n, cells] of shares (Milletari et al. 2016, linear
    denominator); an area of one cell is added to both sides, so that two empty masks agree."""
    both = 2 * (said * told).sum(1) + 1
    return (1 - both / (said.sum(1) + told.sum(1) + 1)).mean()
