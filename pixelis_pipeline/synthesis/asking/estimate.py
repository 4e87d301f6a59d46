"""What a plan will take of a teacher, told before anything is sent: from the plan, the store and the price
list alone.

1. Prompt tokens: the text's UTF-8 bytes / 4, and for each picture or frame OpenAI's rule for GPT-4o at high
   detail (guide "Images and vision", calculating costs): scaled down into 2048 x 2048, then down until the
   shorter side is 768, then 85 tokens and 170 for each tile of 512 x 512 that it touches. Other providers
   count otherwise.
2. Completion tokens: the mean of what this model answered before with this kind of prompt, else over all
   its answers, else a prior: the paper's mean chain of 5.8 steps, each as long as the embedded teacher
   writes it. A model that writes more, or is billed for thinking, takes more than the prior; no answer takes
   more than the limit that is sent with every request, and `Estimate.most` is the cost at that limit.
"""

import functools
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pixelis_pipeline.records import Assignment, TraceKind, canonical
from pixelis_pipeline.settings import Price, TeacherSettings
from pixelis_pipeline.synthesis import prompt as prompts
from pixelis_pipeline.synthesis.asking import prices
from pixelis_pipeline.synthesis.asking.store import AnswerStore, Bills
from pixelis_pipeline.synthesis.request import MOST_TOKENS, Request, frame_count, part_digest, request_for

BYTES_A_TOKEN = 4
PAPER_STEPS = 5.8
STEP_BYTES = 360  # the mean of the embedded teacher's 14,520 steps in 8,542 answers
PRIOR = PAPER_STEPS * STEP_BYTES / BYTES_A_TOKEN  # tokens


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one teacher is still to be asked of a plan.

    `requests` are the different ones among the `planned`; tokens are those of the requests that the store
    does not answer. `measured` is the share of these whose completion is a mean of earlier answers.
    """

    planned: int
    requests: int
    answered: int
    prompt_tokens: float
    completion_tokens: float
    measured: float
    price: Price | None

    @property
    def to_send(self) -> int:
        """Requests that the store does not answer."""
        return self.requests - self.answered

    def dollars(self, batch: bool = False) -> float | None:
        """US dollars for what is to be sent, None without a price."""
        return self._priced(self.completion_tokens, batch)

    def most(self, batch: bool = False) -> float | None:
        """US dollars if every answer were as long as it may be."""
        return self._priced(self.to_send * MOST_TOKENS, batch)

    def _priced(self, completion: float, batch: bool) -> float | None:
        if self.price is None:
            return 0.0 if not self.to_send else None
        return prices.dollars(self.prompt_tokens, completion, self.price, batch)

    def within(self, budget: float, batch: bool = False) -> int | None:
        """How many requests of mean cost `budget` dollars pay for; None without a price."""
        cost = self.dollars(batch)
        if cost is None:
            return None
        return self.to_send if cost <= budget else math.floor(budget / cost * self.to_send)


def image_tokens(width: int, height: int) -> int:
    """Tokens of a picture of so many pixels by the rule above."""
    into = min(1.0, 2048 / max(width, height))
    scale = into * min(1.0, 768 / (into * min(width, height)))
    across, down = (math.ceil(max(1, round(side * scale)) / 512) for side in (width, height))
    return 85 + 170 * across * down


def estimate(assignments: Iterable[Assignment], settings: TeacherSettings, store: AnswerStore) -> Estimate:
    """What asking all `assignments` will take of the teacher of `settings`. Nothing is sent, and no key is
    needed. Raises StoreError, and SettingsError for a prompt there is none of."""
    planned = 0
    tokens: dict[str, tuple[TraceKind, float]] = {}
    systems: dict[str, TraceKind] = {}
    for each in assignments:
        planned += 1
        prompt = prompts.load(each.kind, each.style)
        systems[part_digest(prompt.system)] = each.kind
        request = request_for(each, settings.model, settings.endpoint, prompt)
        tokens[request.key] = each.kind, prompt_tokens(request, each)
    answered = store.answered(tokens)
    due = [found for key, found in tokens.items() if key not in answered]
    means = _means(store.bills(settings.model), systems)
    kinds = Counter(kind for kind, _ in due)
    known = sum(count for kind, count in kinds.items() if kind in means or None in means)
    return Estimate(
        planned=planned,
        requests=len(tokens),
        answered=len(answered),
        prompt_tokens=sum(count for _, count in due),
        completion_tokens=sum(
            count * means.get(kind, means.get(None, PRIOR)) for kind, count in kinds.items()
        ),
        measured=known / len(due) if due else 1.0,
        price=prices.price_of(settings),
    )


def prompt_tokens(request: Request, assignment: Assignment) -> float:
    """Estimated tokens of one request, by the rule above, of the assignment that it is made from."""
    parts = [part for turn in request.messages for part in turn["content"]]
    text = sum(len(part["text"].encode()) for part in parts if part["type"] == "text")
    pictures = sum(
        image_tokens(media.width, media.height) * (frame_count(media) if media.kind == "video" else 1)
        for media in assignment.question.media
    )
    return (_prompt_bytes(assignment.kind, assignment.style) + text) / BYTES_A_TOKEN + pictures


@functools.cache
def _prompt_bytes(kind: TraceKind, style: str) -> int:
    """Length of what every request with this prompt begins with, in bytes."""
    prompt = prompts.load(kind, style)
    return len(prompt.system.encode()) + len(canonical(prompt.schema))


def _means(bills: Iterable[Bills], systems: Mapping[str, TraceKind]) -> dict[TraceKind | None, float]:
    """Mean completion tokens of earlier answers by kind, and under None of all."""
    answers: Counter[TraceKind | None] = Counter()
    tokens: Counter[TraceKind | None] = Counter()
    for bill in bills:
        for kind in {systems.get(bill.system), None}:
            answers[kind] += bill.answers
            tokens[kind] += bill.completion_tokens
    return {kind: tokens[kind] / answers[kind] for kind in answers}
