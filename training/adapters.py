"""The adapters that a policy learns through where not all its weights are trained."""

from typing import Any

import torch  # noqa: TID253
from peft import LoraConfig, get_peft_model  # noqa: TID253

from pixelis_pipeline.agent import skeleton
from pixelis_pipeline.agent.large import LargePolicy
from pixelis_pipeline.agent.policy import Policy
from pixelis_pipeline.records import Json

# Of a full-size policy without ranks from data: the most that such ranks are bounded to, and their scale
# (`ranks.most`, `ranks.scale`); what docs/COMPUTE_BUDGET.md reckons with.
RANK, SCALE = 64, 2


def learner(start: Policy | LargePolicy, ranks: Json | None, seed: int) -> Any:
    """The policy's model under adapters of these `ranks` (arguments of `peft.LoraConfig`), the same ones for
    the same seed. Without ranks nano learns by all its weights, and a full-size policy, which no single GPU
    could train whole, by adapters of one rank. One that has an adapter goes on with it. ValueError for ranks
    of another full-size policy."""
    if isinstance(start, LargePolicy):
        if hasattr(start.model, "peft_config"):
            return start.model
        ranks = {**(ranks or _even(start.model)), "task_type": "CAUSAL_LM"}
        named = tuple(f".{name}" for name in ranks["target_modules"])
        if missing := [each for each in skeleton.targets(start.model) if not f".{each}".endswith(named)]:
            raise ValueError(f"there is no rank for {len(missing)} projections, such as {missing[0]}")
    if ranks is None:
        return start.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(start.model, LoraConfig(**ranks))


def _even(model: Any) -> Json:
    """The same rank for every projection of the language model."""
    return {"r": RANK, "lora_alpha": SCALE * RANK, "target_modules": sorted(skeleton.targets(model))}
