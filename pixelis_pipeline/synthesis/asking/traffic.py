"""What went to and fro between the client and an endpoint, for the asset page."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Traffic:
    """Counts over every `ask` that it is given to.

    `sent` counts attempts; each came back answered, turned away (429), refused (for good) or in trouble on
    the way (`broken`). `retried` were sent again. `spent_tokens` and `spent_dollars` are what the budget
    counts, estimates for unmetered answers included. `ceiling` is the number in flight that the endpoint
    was found to allow, `per_minute` its rate; None: it set no limit. `waited` is in seconds, by cause.
    """

    sent: int = 0
    answered: int = 0
    turned_away: int = 0
    refused: int = 0
    broken: int = 0
    retried: int = 0
    failed: int = 0
    spent_tokens: float = 0.0
    spent_dollars: float = 0.0
    ceiling: int | None = None
    per_minute: float | None = None
    waited: dict[str, float] = field(default_factory=dict)

    def wait(self, cause: str, seconds: float) -> None:
        """The next request waited this long for this reason."""
        self.waited[cause] = round(self.waited.get(cause, 0.0) + seconds, 3)
