"""Run suites, print each as a table and write it to benchmarks/out/<suite>.json."""

import argparse
import sys
from collections.abc import Callable, Sequence

from benchmarks import (
    budget,
    curation,
    demo,
    fingerprints,
    joins,
    ledger,
    ranks,
    recall,
    replay,
    requests,
    rollouts,
    scale,
    sft,
    teacher,
    tools,
)
from benchmarks.measurement import Measurement, show, write

SUITES: dict[str, Callable[[argparse.Namespace], Sequence[Measurement]]] = {
    "ledger": lambda given: ledger.suite(),
    "tools": lambda given: tools.suite(),
    "replay": lambda given: replay.suite(),
    "fingerprints": lambda given: fingerprints.suite(),
    "joins": lambda given: joins.suite(),
    "ranks": lambda given: ranks.suite(),
    "sft": lambda given: sft.suite(),
    "rollouts": lambda given: rollouts.suite(),
    "recall": lambda given: recall.suite(),
    "teacher": lambda given: teacher.suite(),
    "requests": lambda given: requests.suite(),
    "curation": lambda given: curation.suite(),
    "scale": lambda given: scale.suite(),
    "budget": lambda given: budget.suite(),
    "demo": lambda given: demo.suite(given.profile, given.to),
}


def main() -> int:
    """0, whatever was met: a benchmark informs, a test decides."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; default: all")
    parser.add_argument("--profile", default="embedded", help="demo: which profile to run (default embedded)")
    parser.add_argument(
        "--to", nargs="+", default=[], metavar="ASSET", help="demo: only these assets and what they need"
    )
    given = parser.parse_args()
    if unknown := sorted(set(given.suites) - set(SUITES)):
        parser.error(f"no suite {unknown[0]!r}; there are {', '.join(SUITES)}")
    for name in given.suites or SUITES:
        found = SUITES[name](given)
        path = write(name, found)
        show(f"{name} ({path})", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
