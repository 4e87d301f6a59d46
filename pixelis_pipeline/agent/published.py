"""The full-size policies, as their authors published them.

Every number is of config.json at the revision named beside it; `parameters` is the total that the hub states
for the safetensors there, and what the model built from the numbers comes to (a test holds that).
"""

from dataclasses import dataclass, field

from pixelis_pipeline.records import Json

CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))  # Radford et al. 2021


@dataclass(frozen=True, slots=True)
class Published:
    """`kind` is the model_type of config.json; `text` and `vision` what decides the shape of the two parts,
    `vision` empty for a model without sight; `mean` and `deviation` a picture's normalisation, by channel."""

    hub: str
    revision: str
    kind: str
    parameters: int
    text: Json
    vision: Json = field(default_factory=dict)
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    @property
    def unit(self) -> int:
        """Pixels a side of a merged image token."""
        return int(self.vision["patch_size"] * self.vision["spatial_merge_size"])


POLICIES: dict[str, Published] = {
    "qwen2.5-vl-7b": Published(
        hub="Qwen/Qwen2.5-VL-7B-Instruct",
        revision="cc594898137f460bfe9f0759e9844b3ce807cfb5",
        kind="qwen2_5_vl",
        parameters=8_292_166_656,
        text={
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "max_position_embeddings": 128000,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        vision={
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
            "tokens_per_second": 2,
            "out_hidden_size": 3584,
        },
        mean=CLIP[0],
        deviation=CLIP[1],
    ),
    "qwen3-vl-8b": Published(
        hub="Qwen/Qwen3-VL-8B-Instruct",
        revision="0c351dd01ed87e9c1b53cbc748cba10e6187ff3b",
        kind="qwen3_vl",
        parameters=8_767_123_696,
        text={
            "vocab_size": 151936,
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 262144,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {
                "rope_theta": 5e6,
                "mrope_section": [24, 20, 20],
                "mrope_interleaved": True,
            },
        },
        vision={
            "depth": 27,
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_heads": 16,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [8, 16, 24],
            "out_hidden_size": 4096,
        },
        mean=(0.5, 0.5, 0.5),
        deviation=(0.5, 0.5, 0.5),
    ),
    "qwen3-8b": Published(
        hub="Qwen/Qwen3-8B",
        revision="b968826d9c46dd6066d109eabc6255188de91218",
        kind="qwen3",
        parameters=8_190_735_360,
        text={
            "vocab_size": 151936,
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 40960,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_theta": 1e6},
        },
    ),
}
