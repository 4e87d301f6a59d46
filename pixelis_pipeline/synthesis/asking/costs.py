"""What traces cost: the tokens and dollars of all that was asked, over the traces that were kept of it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from pixelis_pipeline.records import Json
from pixelis_pipeline.settings import Price, TeacherSettings
from pixelis_pipeline.synthesis.asking.prices import dollars, price_of, unpriced
from pixelis_pipeline.synthesis.asking.store import AnswerStore

ALL = "all"
_Bill = tuple[tuple[int, int] | None, bool]  # (prompt and completion tokens where told, by batch)


@dataclass(frozen=True, slots=True)
class Cost:
    """What the answers to some requests took, each counted once.

    `dollars` is None where the model has no price. `unmetered` answers came without a token count: what
    they took is in no sum. `accepted` counts the traces that were kept of them, None where that is not
    known yet.
    """

    answers: int
    unmetered: int
    prompt_tokens: int
    completion_tokens: int
    dollars: float | None
    accepted: int | None

    @property
    def tokens_each(self) -> float | None:
        """Tokens per accepted trace, those of refused ones included; None without any."""
        return (self.prompt_tokens + self.completion_tokens) / self.accepted if self.accepted else None

    @property
    def dollars_each(self) -> float | None:
        """Dollars per accepted trace, those of refused ones included; None without any, or a price."""
        return self.dollars / self.accepted if self.accepted and self.dollars is not None else None


def costs(
    store: AnswerStore,
    settings: TeacherSettings,
    asked: Iterable[tuple[str, str]],
    accepted: Iterable[tuple[str, str]] | None = None,
) -> dict[str, Cost]:
    """The cost of (request key, kind of trace) pairs under "all" and under each kind.

    `accepted` has one such pair for each trace that was kept; without it the costs are per answer alone.
    Requests that were never answered cost nothing. Raises StoreError.
    """
    kinds = dict(asked)
    kept = None if accepted is None else Counter(kind for _, kind in accepted)
    bills: dict[str, list[_Bill]] = {kind: [] for kind in sorted(set(kinds.values()))}
    for key, answer in store.read_many(sorted(kinds)):
        used = (answer.usage["prompt"], answer.usage["completion"]) if answer.usage else None
        bills[kinds[key]].append((used, bool(answer.metadata.get("batch"))))
    price = price_of(settings)
    every = [bill for each in bills.values() for bill in each]
    found = {ALL: _cost(every, price, None if kept is None else kept.total())}
    for kind, each in bills.items():
        found[kind] = _cost(each, price, None if kept is None else kept[kind])
    return found


def _cost(bills: list[_Bill], price: Price | None, accepted: int | None) -> Cost:
    metered = [(*used, batch) for used, batch in bills if used]
    return Cost(
        answers=len(bills),
        unmetered=len(bills) - len(metered),
        prompt_tokens=sum(prompt for prompt, _, _ in metered),
        completion_tokens=sum(completion for _, completion, _ in metered),
        dollars=None if price is None else sum(dollars(p, c, price, batch) for p, c, batch in metered),
        accepted=accepted,
    )


def recorded(found: dict[str, Cost], settings: TeacherSettings) -> Json:
    """Costs as a run record keeps them and an asset's page shows them."""
    kinds = {
        kind: asdict(cost) | {"tokens_each": cost.tokens_each, "dollars_each": cost.dollars_each}
        for kind, cost in found.items()
    }
    unknown = {} if price_of(settings) else {"unpriced": unpriced(settings.model)}
    return {"model": settings.model, "kinds": kinds, **unknown}
