"""The step embedding and the dynamics head (specification section 4), beside the policy and apart from it.

E_t = unit(MLP([v_t ; x_t ; a_{t-1}])) places a state; from (E_t, a_t) the dynamics head says what the call
a_t will see, v_{t+1}, and whether it will be valid. What it is wrong about is what curiosity pays for, less
where passes with dropout disagree. It learns from the rollouts' own calls, and beside each from a look at a
place drawn anew: what a look anywhere shows is no news then, and looking somewhere odd does not pay as such.

The embedding stays as the seed made it. A random projection keeps like states near each other, and the frozen
statistics of its cosines stay true. Learned along with the prediction it did not: the cosine of a cut-out and
the measurement of it fell from .80 (deviation .04) to .59 (.09) in 300 updates, because what foretells the
next look is not what makes two looks alike, and calls on unrelated places then earned more than honest ones.

The dynamics head also foretells its own error, and curiosity counts an error in units of it (after Mavor-
Parker et al. 2022, How to Stay Curious while Avoiding Noisy TVs, who take it off): dropout's variance does
not tell noise from news, the error that is known beforehand does.

All chance comes from the seed and the number of updates, and the heads live on the CPU: the same rollouts
give the same bits, whatever else draws random numbers.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch  # noqa: TID253
from torch import nn  # noqa: TID253
from torch.nn.functional import binary_cross_entropy_with_logits, gelu, normalize  # noqa: TID253

from pixelis_pipeline.records import Json
from pixelis_pipeline.settings import HeadSettings
from training import checkpoint
from training.rft.looks import regions
from training.rft.rewards import Rollout
from training.rft.states import TOOLS, States, standard

_LEARN, _JUDGE = 0, 1  # what chance is drawn for


class Layers(nn.Module):
    """Two layers with a LayerNorm, a GELU and a dropout between them."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.lift = nn.Linear(inputs, width)
        self.norm = nn.LayerNorm(width)
        self.put = nn.Linear(width, outputs)

    def forward(self, inputs: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """[n, inputs] -> [n, outputs]. `kept` [n or 1, width] is dropout's mask, or none."""
        inner = gelu(self.norm(self.lift(inputs)))
        return self.put(inner if kept is None else inner * kept)


class Embedding(nn.Module):
    """E of states, and the call that led to each: a vector for the tool's name, beside its box."""

    def __init__(self, hidden: int, settings: HeadSettings) -> None:
        super().__init__()
        self.tool = nn.Embedding(len(TOOLS) + 1, settings.tool)
        self.layers = Layers(2 * hidden + settings.tool + 4, settings.width, settings.embedding)

    def actions(self, steps: "Flat") -> torch.Tensor:
        """a [steps, tool + 4]."""
        return torch.cat([self.tool(steps.tool), steps.box], 1)

    def forward(self, steps: "Flat", kept: torch.Tensor | None = None) -> torch.Tensor:
        """Unit rows [states, embedding]."""
        actions = self.actions(steps)
        led = actions.new_zeros(len(steps.v), actions.shape[1]).index_copy(0, steps.after, actions)
        return normalize(self.layers(torch.cat([steps.v, steps.x, led], 1), kept))


class Dynamics(nn.Module):
    """From E and a call: the features it will see, the logit that it is valid, and how wrong it expects to be
    about the features, as a logarithm."""

    def __init__(self, hidden: int, settings: HeadSettings) -> None:
        super().__init__()
        self.layers = Layers(settings.embedding + settings.tool + 4, settings.width, hidden + 2)

    def forward(
        self, state: torch.Tensor, action: torch.Tensor, kept: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """[n, embedding] and [n, tool + 4] -> ([n, hidden], [n], [n])."""
        # Unit rows have entries far below an action's; brought to the same size, neither drowns the other.
        even = state * state.shape[1] ** 0.5
        said = self.layers(torch.cat([even, action], 1), kept)
        return said[:, :-2], said[:, -1], said[:, -2]


@dataclass(frozen=True, slots=True)
class Flat:
    """The states of many rollouts in one row, and their steps: `before` and `after` int64 [steps] are the
    states that a call starts from and leads to."""

    v: torch.Tensor
    x: torch.Tensor
    tool: torch.Tensor
    box: torch.Tensor
    valid: torch.Tensor
    after: torch.Tensor

    @property
    def before(self) -> torch.Tensor:
        return self.after - 1


def flat(batch: Sequence[States]) -> Flat:
    """The states and steps of at least one rollout."""
    starts = np.cumsum([0, *(len(each.v) for each in batch)])
    after = [start + 1 + np.arange(len(each.tool)) for start, each in zip(starts, batch, strict=False)]
    valid = [each.valid[each.kept] for each in batch]
    parts = [[getattr(each, name) for each in batch] for name in ("v", "x", "tool", "box")]
    return Flat(*(torch.from_numpy(np.concatenate(part)) for part in (*parts, valid, after)))


@dataclass(frozen=True, slots=True)
class Loss:
    """One update: mean squared error of the features and of those at places drawn anew, cross-entropy of
    validity, steps learned from."""

    error: float
    elsewhere: float
    validity: float
    steps: int


class Heads:
    """Both heads for a policy whose features are `hidden` wide, with their optimizer."""

    def __init__(self, hidden: int, settings: HeadSettings) -> None:
        self.settings = settings
        self.updates = 0
        self._hidden = hidden
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(settings.seed)
            self.embedding = Embedding(hidden, settings)
            self.dynamics = Dynamics(hidden, settings)
        self._optimizer = torch.optim.AdamW(
            self.dynamics.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    @property
    def digest(self) -> str:
        """sha256 hex of the embedding's weights: what statistics of its cosines belong to."""
        found = hashlib.sha256()
        for name, weight in sorted(self.embedding.named_parameters()):
            found.update(name.encode() + weight.detach().numpy().tobytes())
        return found.hexdigest()

    def update(self, batch: Sequence[States]) -> Loss | None:
        """One optimiser step of the dynamics head on at most `settings.batch` of the rollouts' steps, drawn
        from the seed; None where they have none. What an invalid call would have seen is not learned, only
        that it is invalid."""
        steps = flat(batch) if batch else None
        if steps is None or not len(steps.tool):
            return None
        chance = self._chance(_LEARN)
        chosen = torch.randperm(len(steps.tool), generator=chance)[: self.settings.batch]
        with torch.no_grad():
            state = self.embedding(steps, self._thinned(chance, len(steps.v)))[steps.before[chosen]]
            action = self.embedding.actions(steps)[chosen]
            box, seen = self._imagined(batch, steps, chosen, chance)
            other = torch.cat([action[:, : self.settings.tool], box], 1)
        told, logit, expected = self.dynamics(state, action, self._thinned(chance, len(chosen)))
        guess, _, doubt = self.dynamics(state, other, self._thinned(chance, len(chosen)))
        valid = steps.valid[chosen]
        error = (told - steps.v[steps.after[chosen]]).square().mean(1)
        wrong = (error * valid).sum() / valid.sum().clamp(min=1)
        missed = (guess - seen).square().mean(1)
        elsewhere = missed.mean()
        surprise = (_likelihood(expected, error) * valid).sum() / valid.sum().clamp(min=1)
        surprise = surprise + _likelihood(doubt, missed).mean()
        unsure = binary_cross_entropy_with_logits(logit, valid.float())
        self._optimizer.zero_grad()
        (wrong + elsewhere + surprise + self.settings.validity * unsure).backward()
        nn.utils.clip_grad_norm_(self.dynamics.parameters(), self.settings.gradient_norm)
        self._optimizer.step()
        self.updates += 1
        return Loss(wrong.item(), elsewhere.item(), unsure.item(), len(chosen))

    @torch.no_grad()
    def judge(self, batch: Sequence[States], correct: Sequence[bool]) -> list[Rollout]:
        """The rollouts as rewards want them, in order; steps that are not kept, which earn nothing, are 0. A
        pass with dropout thins the same units for every step, so that what is said of one does not depend on
        the others."""
        if not batch:
            return []
        steps, chance = flat(batch), self._chance(_JUDGE)
        told, logit, expected, places = self._told(steps)
        error = (told - steps.v[steps.after]).square().mean(1)
        passes = [
            self._told(steps, self._thinned(chance, 1), self._thinned(chance, 1))[0]
            for _ in range(self.settings.passes)
        ]
        variance = torch.stack(passes).var(0).mean(1)
        ends = np.cumsum([len(each.tool) for each in batch])[:-1]
        parts = [
            np.split(values.double().numpy(), ends)
            for values in (places[steps.after], error, variance, logit, expected.exp())
        ]
        return [
            Rollout(
                right,
                each.family,
                each.calls,
                each.tools,
                tuple(each.valid.tolist()),
                *_spread(each, [*values, each.place]),
            )
            for right, each, *values in zip(correct, batch, *parts, strict=True)
        ]

    def _imagined(
        self, batch: Sequence[States], steps: Flat, chosen: torch.Tensor, chance: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """For each chosen step a box drawn anew [n, 4], and the features that it shows [n, hidden]."""
        size, place = torch.rand(2, len(chosen), 2, generator=chance)
        size = size.square()  # looks are small more often than large
        start = place * (1 - size)
        box = torch.cat([start, start + size], 1)
        owner = np.repeat(np.arange(len(batch)), [len(each.tool) for each in batch])[chosen.numpy()]
        at = regions(box.numpy(), self.settings.tiny)
        seen = np.stack([weights @ batch[k].shown for weights, k in zip(at, owner, strict=True)])
        return box, torch.from_numpy(standard(seen))

    def _told(
        self, steps: Flat, kept: torch.Tensor | None = None, also: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features [steps, hidden], logits and log errors [steps] as predicted, and E [states, embedding]."""
        places = self.embedding(steps, kept)
        return *self.dynamics(places[steps.before], self.embedding.actions(steps), also), places

    def _chance(self, purpose: int) -> torch.Generator:
        seed = np.random.SeedSequence([self.settings.seed, self.updates, purpose]).generate_state(
            1, np.uint64
        )
        return torch.Generator().manual_seed(int(seed[0]))

    def _thinned(self, chance: torch.Generator, rows: int) -> torch.Tensor:
        """A mask [rows, width] of what dropout lets through, scaled so that sums keep their size."""
        stays = 1 - self.settings.dropout
        return torch.rand(rows, self.settings.width, generator=chance).lt(stays).float() / stays

    def save(self, path: Path) -> None:
        """Write weights, optimizer and count of updates as one safetensors file."""
        checkpoint.write(path, self._modules, self._optimizer, {"updates": self.updates, "of": self._of})

    def load(self, path: Path) -> None:
        """Go on from a saved state, to the same bits. ValueError where other heads wrote it."""
        of = checkpoint.progress(path).get("of")
        if of != self._of:
            raise ValueError(f"{path} holds heads of {of}, these are {self._of}")
        self.updates = checkpoint.read(path, self._modules, self._optimizer)["updates"]

    @property
    def _modules(self) -> dict[str, nn.Module]:
        return {"embedding": self.embedding, "dynamics": self.dynamics}

    @property
    def _of(self) -> Json:
        return {"hidden": self._hidden, **self.settings.model_dump()}


def _likelihood(expected: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    """Minus the log-likelihood [n] of errors that are spread exponentially, by the logs expected: least where
    these are the logs of their means. No gradient reaches what was predicted."""
    return (-expected).exp() * error.detach() + expected


def _spread(of: States, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Rows of the steps that are kept as rows of all steps."""
    spread = [np.zeros((len(of.calls), *each.shape[1:])) for each in values]
    for whole, each in zip(spread, values, strict=True):
        whole[of.kept] = each
    return spread
