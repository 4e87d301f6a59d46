"""Admission by budget: a request goes out only where what it may cost still fits.

What is guaranteed: a request is sent only while spent + reserved + its own reservation <= the limit. So the
limit is exceeded by no more than the requests in flight cost beyond their reservations. Until `ENOUGH`
answers are known a reservation is the most that an answer may take (`MOST_TOKENS`); from then on the longest
answer so far, and the prompt's estimate times the worst ratio so far of a bill to its estimate. An attempt
whose answer may have been written and lost counts as its reservation, and so does an answer without a bill.
"""

from dataclasses import dataclass

from pixelis_pipeline.records import Json
from pixelis_pipeline.settings import Price, TeacherSettings
from pixelis_pipeline.synthesis.asking import prices
from pixelis_pipeline.synthesis.asking.traffic import Traffic
from pixelis_pipeline.synthesis.request import MOST_TOKENS

ENOUGH = 8  # answers
FREE = Price(prompt=0, completion=0)


@dataclass(frozen=True, slots=True)
class Reserved:
    """What is held back for one request."""

    prompt: float
    completion: float


class Budget:
    """The limits `max_cost` and `max_tokens` (0: none) of one run; `traffic` holds what it has spent. A
    limit counts what other `ask`s of the run put there before. SettingsError for a cost limit on a model
    without a price."""

    def __init__(self, settings: TeacherSettings, traffic: Traffic) -> None:
        prices.require_price(settings)
        self._settings, self._traffic = settings, traffic
        self._price = prices.price_of(settings) or FREE
        self._held = {"tokens": 0.0, "dollars": 0.0}
        self._answers, self._longest, self._ratio = 0, 0.0, 1.0

    def reserve(self, prompt: float) -> Reserved | None:
        """Room for a request of about `prompt` tokens, None where there is none now. Without a limit there
        always is, and what is spent is counted all the same."""
        known = self._answers >= ENOUGH
        wanted = Reserved(prompt * self._ratio, self._longest if known else float(MOST_TOKENS))
        tokens, dollars = self._amounts(wanted.prompt, wanted.completion)
        spent, held, most = self._traffic, self._held, self._settings
        if most.max_tokens and spent.spent_tokens + held["tokens"] + tokens > most.max_tokens:
            return None
        if most.max_cost and spent.spent_dollars + held["dollars"] + dollars > most.max_cost:
            return None
        self._hold(wanted, 1)
        return wanted

    def settle(self, held: Reserved, prompt: float, usage: Json) -> None:
        """The request of about `prompt` tokens was answered, with this bill."""
        self._hold(held, -1)
        if not usage:
            self._spend(held.prompt, held.completion)
            return
        self._answers += 1
        self._longest = max(self._longest, usage["completion"])
        self._ratio = max(self._ratio, usage["prompt"] / prompt if prompt else 1.0)
        self._spend(usage["prompt"], usage["completion"])

    def release(self, held: Reserved, billed: bool) -> None:
        """The request came back without an answer; `billed`: it may have been charged for."""
        self._hold(held, -1)
        if billed:
            self._spend(held.prompt, held.completion)

    def spent(self) -> str:
        """Why nothing more is asked for."""
        most, spent = self._settings, self._traffic
        if most.max_cost:
            limit = (
                f"budget of ${most.max_cost:g} spent (${spent.spent_dollars:.4f} of it; the next request may "
            )
            return limit + "cost more than is left): raise teacher.max_cost / --max-cost and run again"
        limit = (
            f"budget of {most.max_tokens} tokens spent ({spent.spent_tokens:.0f} of them; the next request "
        )
        return limit + "may take more than is left): raise teacher.max_tokens and run again"

    def _amounts(self, prompt: float, completion: float) -> tuple[float, float]:
        return prompt + completion, prices.dollars(prompt, completion, self._price)

    def _hold(self, held: Reserved, sign: int) -> None:
        tokens, dollars = self._amounts(held.prompt, held.completion)
        self._held["tokens"] += sign * tokens
        self._held["dollars"] += sign * dollars

    def _spend(self, prompt: float, completion: float) -> None:
        tokens, dollars = self._amounts(prompt, completion)
        self._traffic.spent_tokens += tokens
        self._traffic.spent_dollars += dollars
