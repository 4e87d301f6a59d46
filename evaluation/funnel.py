"""The way of the data from raw to splits: what each stage did with what it read, and what a survivor has
cost by then."""

from dataclasses import dataclass, field

from pixelis_pipeline.records import Json

ALL = "all"


@dataclass(frozen=True, slots=True)
class Row:
    """What one stage did with what it read of one source, or of all: accepted + rejected + failed = read.

    `unit` names what is counted, `rules` counts rejections by rule, `emitted` the records made of the
    accepted. `seconds`, `tokens` and `dollars` are what this stage and those before it took together; None
    where that is not known: seconds of one source once a stage runs over all of them, dollars of a model
    without a price. `unmetered` answers came without a token count and are in neither sum. `counted` names
    the artifacts they were counted in. Raises ValueError where records are lost.
    """

    id: str
    parents: tuple[str, ...]
    stage: str
    source: str
    unit: str
    read: int
    accepted: int
    emitted: int
    failed: int = 0
    rules: Json = field(default_factory=dict)
    seconds: float | None = None
    tokens: int | None = None
    dollars: float | None = None
    unmetered: int = 0
    counted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        out = self.accepted + self.rejected + self.failed
        if out != self.read:
            raise ValueError(f"stage {self.stage}: {self.read} {self.unit} went in and {out} came out")

    @property
    def rejected(self) -> int:
        """How many were refused for good."""
        return sum(self.rules.values())

    def each(self, total: float | None) -> float | None:
        """A total over the records that are left after this stage; None without any."""
        return total / self.emitted if total is not None and self.emitted else None


@dataclass(frozen=True, slots=True)
class Example:
    """One record that a stage kept, or refused by `rule`. `picture` is a data URI, "" without one; `twin`
    likewise, of what it was refused for. `record` is the id to trace."""

    stage: str
    source: str
    record: str
    rule: str
    caption: str
    picture: str
    twin: str = ""

    @property
    def kept(self) -> bool:
        """Whether it went on."""
        return not self.rule
