"""A full-size policy on one GPU, or a few of one machine: what it will take, and then all of it (`make gpu`).

    python -m benchmarks.one_gpu [--profile gpu80x8] [--estimate] [--to ASSET ...]

It is `pixelis --profile gpu80 run` with the arithmetic of `budget` in front: the weights are fetched, the
traces are made of the embedded world (or of your sources, where settings name them), the policy is taught
and reinforced through adapters, each phase answers the held-out questions, and the report compares them.
Stopped or killed anywhere, the same command goes on from where it was.
"""

import argparse
import sys
from collections.abc import Sequence

from assets import cli, console
from assets.stage import home
from benchmarks import budget
from benchmarks.budget import GB, GPUS, HOUR, Shape
from pixelis_pipeline.agent.policy import fetched
from pixelis_pipeline.agent.published import POLICIES
from pixelis_pipeline.settings import Settings, SettingsError, load

PHASES = 4  # sets of answers: before, after SFT, the same without tools, after RFT


def estimate(settings: Settings) -> list[tuple[str, ...]]:
    """What the run of these settings takes, as rows of a table: phase, how much of it, GB of memory of each
    GPU, and hours on each kind of `budget.GPUS`. Computed, with the assumptions of docs/COMPUTE_BUDGET.md,
    from traces as long as the paper's; here a conversation is read again each turn, and that is counted. What
    processes that train together tell each other is taken for nothing; answers are given by one."""
    of = budget.shape(POLICIES[settings.policy.name])
    traces = sum(source.items for source in settings.sources.values())
    sft, rft, asked = settings.sft, settings.rft, settings.evaluation.held_out
    together = settings.operations.processes
    split = together if settings.operations.strategy == "fsdp" else 1
    beside = rft.prompts // together * rft.group
    phases = {
        ("SFT", f"{traces} traces x {sft.epochs} epochs at most", "sft", split): [
            traces * sft.epochs * trained(of, settings, gpu) / together for gpu in GPUS
        ],
        ("RFT", f"{rft.steps} steps of {rft.prompts} x {rft.group} rollouts", "rft", 1): [
            rft.steps * beside * (rolled(of, settings, gpu, beside) + scored(of, settings, gpu))
            for gpu in GPUS
        ],
        ("evaluation", f"{PHASES} x {asked} questions", "rollouts", 1): [
            PHASES * asked * rolled(of, settings, gpu, settings.policy.batch) for gpu in GPUS
        ],
    }
    return [
        (
            *(name, what, f"{budget.memory(of, phase, over, settings.policy).total / GB:.0f}"),
            *(f"{seconds / HOUR:.1f}" for seconds in took),
        )
        for (name, what, phase, over), took in phases.items()
    ]


def _passes(of: Shape, settings: Settings, gpu: budget.Gpu) -> tuple[float, float]:
    """Seconds of one pass over one trace: forward, and learned from."""
    row = budget.length(of, settings.policy)
    pictures = 1 + budget.STEPS * budget.ZOOM_SHARE
    once = budget.forward(of, row.tokens, row.patches, pictures)
    again = budget.learned(of, row.tokens, row.patches)
    return once / (gpu.flops * budget.USED), again / (gpu.flops * budget.USED)


def trained(of: Shape, settings: Settings, gpu: budget.Gpu) -> float:
    """Seconds of learning from one trace."""
    return _passes(of, settings, gpu)[1]


def scored(of: Shape, settings: Settings, gpu: budget.Gpu) -> float:
    """Seconds of a rollout that is there: read by the policy and by its reference, and learned from."""
    once, again = _passes(of, settings, gpu)
    return 2 * once + again


def rolled(of: Shape, settings: Settings, gpu: budget.Gpu, beside: int) -> float:
    """Seconds of one rollout of `beside` that are made side by side: each of its tokens waits for the weights
    and half of their caches, and each turn reads what came before it again, half a trace in the mean."""
    turns = budget.STEPS + 1
    cached = beside * of.cached * budget.length(of, settings.policy).tokens / 2
    token = (2.0 * of.decoder + cached) / (gpu.bytes * budget.READ)
    decoded = turns * settings.policy.tokens_per_turn * token / beside
    return decoded + turns * _passes(of, settings, gpu)[0] / 2


def show(settings: Settings) -> None:
    """Print the estimate."""
    named, where = POLICIES[settings.policy.name], settings.policy.weights or settings.policy.hub
    console.say(f"{settings.policy.name}: {2 * named.parameters / GB:.1f} GB of weights, {where}")
    head = ("phase", "how much, at most", "GB of memory", *(f"hours on {gpu.name}" for gpu in GPUS))
    console.table("What it takes, computed and never measured on such a GPU", head, estimate(settings))
    console.say(
        "Tools, which run on the CPU beside it, and fetching are not in it; docs/COMPUTE_BUDGET.md has the "
        "assumptions. Stop it whenever you like: the same command goes on."
    )


def check_device(settings: Settings) -> None:
    """SettingsError where GPUs are asked for and not as many are seen."""
    import torch

    wanted = settings.operations.processes if settings.policy.device == "cuda" else 0
    if torch.cuda.is_available() and torch.cuda.device_count() < wanted:
        raise SettingsError(
            f"operations.processes is {wanted}, each with a GPU of its own, and torch sees "
            f"{torch.cuda.device_count()}"
        )
    if settings.policy.device.startswith("cuda") and not torch.cuda.is_available():
        raise SettingsError(
            f"policy.device is {settings.policy.device}, and torch {torch.__version__} sees no GPU: "
            "`make gpu` puts its CUDA build into .venv, `nvidia-smi` must show a driver"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 where a run failed; 2 where settings, this machine or the weights do not fit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.one_gpu", description=__doc__)
    parser.add_argument("--profile", default="gpu80")
    parser.add_argument("--estimate", action="store_true", help="say what it takes, and end")
    parser.add_argument("--to", nargs="+", default=[], metavar="ASSET", help="only these and what they need")
    given = parser.parse_args(arguments)
    try:
        settings = load(home(), given.profile)
        if settings.policy.name == "nano":
            raise SettingsError("policy.name is nano: `make demo` is the run for it")
        show(settings)
        if given.estimate:
            return 0
        check_device(settings)
        fetched(settings.policy)
    except (SettingsError, OSError) as error:
        console.error(str(error))
        return 2
    return cli.main(["--profile", given.profile, "run", *(["--to", *given.to] if given.to else [])])


if __name__ == "__main__":
    sys.exit(main())
