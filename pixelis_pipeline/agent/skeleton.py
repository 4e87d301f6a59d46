"""Full-size models without their weights: what shapes they have, and which of them adapters go on.

Imported only where a model is wanted: it needs torch and transformers.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch  # noqa: TID253

from pixelis_pipeline.agent.nano import CLASSES
from pixelis_pipeline.agent.published import Published

PROJECTION = re.compile(
    r"model\.(?:language_model\.)?layers\.\d+\.(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)"
)


def configuration(named: Published) -> Any:
    """The configuration of transformers that the published numbers make."""
    kind = CLASSES[named.kind][0]
    text = {**named.text, "rope_parameters": {"rope_type": "default", **named.text["rope_parameters"]}}
    made = kind(text_config=text, vision_config=named.vision) if named.vision else kind(**text)
    made.dtype = "bfloat16"
    return made


def build(named: Published) -> Any:
    """The model without weights, on the meta device: shapes, names and counts, and no memory."""
    with torch.device("meta"):
        return CLASSES[named.kind][1](configuration(named))


def targets(model: Any) -> dict[str, tuple[int, int]]:
    """What LoRA adapts: name -> (inputs, outputs) of each q, k, v, o, gate, up and down projection of the
    language model. The vision tower, whose layers bear some of the same names, is left as it is."""
    return {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and PROJECTION.fullmatch(name)
    }


def check_ranks(ranks: Mapping[str, int], model: Any) -> None:
    """Raise ValueError unless `ranks` gives each of the model's targets, and nothing else, a rank that its
    matrix can have."""
    shapes = targets(model)
    if missing := sorted(shapes.keys() - ranks.keys()):
        raise ValueError(f"no rank for {len(missing)} projections, such as {missing[0]}")
    if foreign := sorted(ranks.keys() - shapes.keys()):
        raise ValueError(f"{len(foreign)} ranks are for what the model does not adapt, such as {foreign[0]}")
    for name, rank in ranks.items():
        if not 0 < rank <= min(shapes[name]):
            raise ValueError(f"{name} is {shapes[name][0]} x {shapes[name][1]}: it has no rank {rank}")
