"""Batched decoding: rows that a policy and its environment write in turns."""

from collections.abc import Sequence
from dataclasses import replace

import torch  # noqa: TID253

from pixelis_pipeline.agent import nano, vocabulary
from pixelis_pipeline.agent import tokenizer as words
from pixelis_pipeline.agent.batch import Batch, collate
from pixelis_pipeline.agent.grammar import ENDS
from pixelis_pipeline.agent.pixels import GRID, TOKENS, Image
from pixelis_pipeline.agent.policy import Said
from pixelis_pipeline.agent.reader import Reader

NEVER = (
    *(words.PAD, words.UNKNOWN, words.IMAGE, words.VIDEO, "<system>", "</system>"),
    *("<user>", "</user>", "<vision>", "</vision>", "<obs>", "</obs>"),
)


def scores(model: nano.Model, hidden: torch.Tensor, temperature: float) -> torch.Tensor:
    """Log-probabilities [..., vocabulary] of the next token after hidden states [..., hidden], as `say`
    samples it: divided by the temperature (by 1 at 0), without the marks that only the environment writes."""
    never = torch.tensor([words.token(mark) for mark in NEVER])
    found = (model.lm_head(hidden) / (temperature or 1.0)).index_fill(-1, never, -torch.inf)
    return found.log_softmax(-1)


class Conversation:
    """Token rows that grow turn by turn: `say` lets the policy write, `hear` adds what came back, `keep` goes
    on with some of the rows, in ascending order. Nothing is read twice, from the picture to the answer."""

    @torch.inference_mode()
    def __init__(
        self, model: nano.Model, prompts: Sequence[Sequence[int]], images: Sequence[Image], copies: int = 1
    ) -> None:
        """`copies` rows of each prompt, one after the other; what they share is read once. `images` (uint8
        RGB) are those that the prompts hold a place for, in their order. Raises ImageTokenMismatch."""
        self._model = model
        batch = collate(prompts, images, "left")
        self._reader = Reader(model, batch, [copies] * len(prompts))
        self._place = (batch.positions[0].amax(1) + 1).repeat_interleave(copies)
        self._last = self._reader.prompts[:, -1].repeat_interleave(copies, 0)
        self._unread = torch.full((len(prompts) * copies,), -1)  # the last token said, where not yet read

    @torch.inference_mode()
    def say(self, tokens: int, temperature: float, seed: int) -> list[Said]:
        """One turn of each row, up to and with its end mark or `tokens` long: greedy at temperature 0, else
        sampled from `seed`.

        Marks that only the environment may write (observations, questions, pictures) are never chosen.
        """
        chance = torch.Generator().manual_seed(seed)
        ends = torch.tensor([words.token(mark) for mark in ENDS])
        running = torch.ones(len(self._last), dtype=torch.bool)
        said: list[torch.Tensor] = []
        sure: list[torch.Tensor] = []
        while True:
            likely = scores(self._model, self._last, temperature)
            chosen = _choose(likely, temperature, chance)
            said.append(torch.where(running, chosen, -1))
            sure.append(likely.gather(1, chosen[:, None])[:, 0])
            self._unread = torch.where(running, chosen, self._unread)
            running = running & ~torch.isin(chosen, ends)
            if not running.any() or len(said) == tokens:
                break
            block, self._unread = _column(self._unread), torch.full_like(self._unread, -1)
            self._take(block)
        rows, log_probs = torch.stack(said, 1).tolist(), torch.stack(sure, 1).tolist()
        lengths = [sum(token >= 0 for token in row) for row in rows]
        read = vocabulary.nano().decode
        turns = zip(rows, log_probs, lengths, strict=True)
        return [Said(read(row[:n]), tuple(row[:n]), tuple(sums[:n])) for row, sums, n in turns]

    @torch.inference_mode()
    def hear(self, rows: Sequence[Sequence[int]], images: Sequence[Image] = ()) -> None:
        """Add to each row the ids that its environment says; `images` as in the prompts. Raises
        ImageTokenMismatch."""
        pairs = zip(self._unread.tolist(), rows, strict=True)
        self._unread = torch.full_like(self._unread, -1)
        self._read([[unread] * (unread >= 0) + list(row) for unread, row in pairs], images)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, in ascending order."""
        if list(rows) == list(range(len(self._last))):
            return
        chosen = torch.tensor(rows)
        self._reader.keep(chosen)
        self._place, self._last = self._place[chosen], self._last[chosen]
        self._unread = self._unread[chosen]

    def _read(self, rows: Sequence[Sequence[int]], images: Sequence[Image]) -> None:
        """Take the next ids of each row into the cache; a row may have none."""
        self._take(collate(rows, images, "right"))

    def _take(self, block: Batch) -> None:
        """The same for a batch that stands by itself. Padding stands after a row's ids."""
        real = block.attention
        hidden = self._reader.read(replace(block, positions=block.positions + self._place[:, None]))
        count = real.sum(1)
        last = hidden[torch.arange(len(hidden)), (count - 1).clamp(min=0)]
        self._last = torch.where((count > 0)[:, None], last, self._last)
        pictured = torch.eq(block.ids, words.token(words.IMAGE)).sum(1)
        self._place = self._place + count - pictured + pictured // TOKENS * GRID


def generate(
    model: nano.Model,
    prompts: Sequence[str],
    images: Sequence[Image],
    *,
    tokens: int,
    temperature: float,
    seed: int,
) -> list[str]:
    """The turn that follows each prompt, in whose text marks are marks."""
    if not prompts:
        return []
    rows = [words.shared().encode(prompt).ids for prompt in prompts]
    return [said.text for said in Conversation(model, rows, images).say(tokens, temperature, seed)]


def _column(tokens: torch.Tensor) -> Batch:
    """One token a row from ids [batch], none where the id is negative: what `collate` makes of such rows."""
    there = tokens >= 0
    ids = torch.where(there, tokens, words.token(words.PAD))[:, None]
    return Batch(ids, there.long()[:, None], torch.zeros(3, *ids.shape, dtype=torch.long), None, None)


def _choose(likely: torch.Tensor, temperature: float, chance: torch.Generator) -> torch.Tensor:
    """One token a row [batch] from log-probabilities [batch, vocabulary]."""
    if temperature == 0:
        return likely.argmax(-1)
    # By the inverse of the distribution function: `multinomial` draws a number for every word of the
    # vocabulary, which at nano's size takes as long as a layer.
    heights = likely.double().exp().cumsum(-1)
    level = torch.rand(len(likely), 1, generator=chance, dtype=torch.float64) * heights[:, -1:]
    return torch.searchsorted(heights, level, right=True)[:, 0].clamp(max=likely.shape[-1] - 1)
