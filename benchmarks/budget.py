"""What the full-size policies would take: memory and GPU-hours, by arithmetic from their published numbers.

No GPU is touched. Counts of weights come from the models built on the meta device; the rest are formulas,
each with its source where it stands, and lengths and utilisations that are assumed, listed as such on the
page. Measured is the nano policy on one core, as an anchor. The suite writes docs/COMPUTE_BUDGET.md.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from benchmarks.measurement import OUT, Measurement, measured
from pixelis_pipeline.agent.published import POLICIES, Published
from pixelis_pipeline.ledger.files import replace
from pixelis_pipeline.settings import PolicySettings, load

TEMPLATE = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(
    Path(__file__).with_suffix(".jinja").read_text()
)
PAGE = Path(__file__).resolve().parent.parent / "docs" / "COMPUTE_BUDGET.md"
GB, HOUR = 1e9, 3600.0
RANK = 64  # of every adapter: at most what the ranks from data are bounded to
TRACES, EPOCHS = 76_000, 3  # the paper's
STEPS, ZOOM_SHARE = 5.8, 0.171  # the paper's calls a trace, and its share of ZOOM
PROMPTS, GROUP = 4, 8  # of a step of RFT
RFT_STEPS = 1_000  # assumed: the paper states none
STUDY = (3, 10)  # runs of SFT and of RFT: 3 seeds of SFT, RFT-Base and RFT-Full, one of each of 4 ablations
MICRO = 1  # rows that are trained on at once, a GPU
LETTERS, QUESTION, HEARD, ANSWER = 4.0, 64, 48, 16  # assumed: letters a token; tokens of each part
USED, READ = 0.35, 0.6  # assumed: shares of a GPU's arithmetic and of its memory's rate
ROOM = 0.9  # of a GPU's memory, the rest is the context's and lost to fragments


@dataclass(frozen=True, slots=True)
class Gpu:
    """Dense bfloat16 FLOP/s and bytes/s, from NVIDIA's data sheets of the SXM parts."""

    name: str
    flops: float
    bytes: float
    memory: float = 80 * GB


GPUS = (Gpu("A100 80 GB", 312e12, 2.039e12), Gpu("H100 80 GB", 989e12, 3.35e12))


@dataclass(frozen=True, slots=True)
class Shape:
    """What the formulas need of a policy. `decoder` are the weights a token is multiplied by, the score
    matrix among them and the table of embeddings not; `adapters` the weights of all adapters at rank 1."""

    published: Published
    decoder: int
    tower: int
    adapters: int

    @property
    def layers(self) -> int:
        """Of the language model."""
        return int(self.published.text["num_hidden_layers"])

    @property
    def hidden(self) -> int:
        """Width of the language model."""
        return int(self.published.text["hidden_size"])

    @property
    def head(self) -> int:
        """Width of an attention head."""
        return int(self.published.text.get("head_dim", self.hidden // self._count("num_attention_heads")))

    @property
    def attention(self) -> int:
        """Width of all heads together."""
        return self.head * self._count("num_attention_heads")

    def _count(self, name: str) -> int:
        return int(self.published.text[name])

    @property
    def cached(self) -> int:
        """Bytes of the key-value cache a token: keys and values of each layer and shared head, bfloat16."""
        return 2 * 2 * self.layers * self.head * self._count("num_key_value_heads")


def shape(published: Published) -> Shape:
    """Counted on the model that the published numbers build, without its weights."""
    from pixelis_pipeline.agent import skeleton

    made = skeleton.build(published)
    tower = sum(weight.numel() for name, weight in made.named_parameters() if ".visual." in name)
    table = made.get_input_embeddings().weight.numel()
    whole = sum(weight.numel() for weight in made.parameters())
    adapters = sum(inputs + outputs for inputs, outputs in skeleton.targets(made).values())
    return Shape(published, whole - tower - table, tower, adapters)


@dataclass(frozen=True, slots=True)
class Length:
    """Tokens of a trace, and patches of its pictures."""

    tokens: float
    patches: float


def length(of: Shape, settings: PolicySettings) -> Length:
    """A whole trace of the paper's 5.8 calls: system turn with the tools' schemas, question, picture, turns
    at their longest, one crop a ZOOM, answer."""
    from pixelis_pipeline.agent import large

    system = len(large.contract(of.published, "", settings).system) / LETTERS
    shown = (1 + STEPS * ZOOM_SHARE) * settings.picture_tokens_most if of.tower else 0.0
    turns = STEPS * (settings.tokens_per_turn + HEARD)
    merge = of.published.vision.get("spatial_merge_size", 1)
    return Length(system + QUESTION + shown + turns + ANSWER, shown * merge**2)


def forward(of: Shape, tokens: float, patches: float = 0.0, pictures: float = 1.0) -> float:
    """FLOPs of one pass over one trace.

    2 N a token and 2 layers x context x width for attention under a causal mask (Kaplan et al. 2020, table
    1); the tower likewise a patch, whose attention sees a whole picture, or its window.
    """
    language = 2.0 * of.decoder * tokens + 2.0 * of.layers * tokens**2 * of.attention
    if not patches:
        return language
    sight = of.published.vision
    whole = patches / pictures
    window = (sight["window_size"] / sight["patch_size"]) ** 2 if "window_size" in sight else whole
    full = len(sight["fullatt_block_indexes"]) if "window_size" in sight else sight["depth"]
    seen = full * whole + (sight["depth"] - full) * window
    return language + 2.0 * of.tower * patches + 4.0 * patches * seen * sight["hidden_size"]


def learned(of: Shape, tokens: float, patches: float) -> float:
    """FLOPs of learning from one trace by adapters with gradient checkpointing: forward, forward again, and
    backward to the activations alone, together 6 N a token; the tower, which is frozen, once. Of a full
    fine-tuning the backward pass is twice that: 8 N (Korthikanti et al. 2022)."""
    return 3.0 * forward(of, tokens) + (forward(of, tokens, patches) - forward(of, tokens))


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on each GPU."""

    weights: float
    adapters: float
    gradients: float
    optimiser: float
    activations: float
    cache: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.adapters + self.gradients + self.optimiser + self.activations + self.cache


def activations(of: Shape, tokens: float) -> float:
    """Bytes with every layer checkpointed, for one row: 2 s h a layer kept, and one layer's own while it is
    gone through again: 34 s h without the square of attention (Korthikanti et al. 2022), of which 19 s h are
    a four times wider MLP's with dropout; a gated one of width i takes 2 s h + 8 s i in their place. Then
    the scores of every token, in bfloat16, in float32, and their gradient."""
    inner = of.published.text["intermediate_size"]
    kept = 2.0 * tokens * of.hidden * of.layers
    one = tokens * (15.0 * of.hidden + 2.0 * of.hidden + 8.0 * inner)
    return MICRO * (kept + one + 10.0 * tokens * of.published.text["vocab_size"])


def memory(of: Shape, phase: str, gpus: int, settings: PolicySettings) -> Memory:
    """Bytes on each of `gpus`, over which FSDP splits weights, adapters, gradients and optimiser (Zhao et al.
    2023), and the rollouts are dealt out.

    Frozen weights in bfloat16; adapters, their gradients and AdamW's two moments in float32. A full
    fine-tuning in mixed precision takes 2 + 2 + 12 bytes a weight (Rajbhandari et al. 2020). RFT holds a
    second adapter, the reference, and the cache of a step's rollouts.
    """
    weights, row = 2.0 * of.published.parameters, length(of, settings).tokens
    adapters = 4.0 * RANK * of.adapters
    cache = of.cached * row * PROMPTS * GROUP
    if phase == "rollouts":
        return Memory(weights / gpus, adapters / gpus, 0.0, 0.0, 0.0, cache / gpus)
    if phase == "full":
        parts = (weights / gpus, 0.0, weights / gpus, 6 * weights / gpus)
        return Memory(*parts, activations(of, row), 0.0)
    held = 2 * adapters if phase == "rft" else adapters
    parts = (weights / gpus, held / gpus, adapters / gpus, 2 * adapters / gpus)
    return Memory(*parts, activations(of, row), cache / gpus if phase == "rft" else 0.0)


SHOWN: tuple[str, ...] = (
    *("RANK", "TRACES", "EPOCHS", "STEPS", "ZOOM_SHARE", "PROMPTS", "GROUP", "RFT_STEPS", "STUDY"),
    *("LETTERS", "QUESTION", "HEARD", "ANSWER", "USED", "READ", "ROOM"),
)
PHASES = {
    "rollouts": f"evaluation, {PROMPTS} x {GROUP} rollouts",
    "sft": f"SFT, adapters of rank {RANK}",
    "rft": f"RFT, {PROMPTS} x {GROUP} rollouts beside the learner",
    "full": "full fine-tuning (for ranks from data)",
}


@dataclass(frozen=True, slots=True)
class Hours:
    """GPU-hours of each phase. `decode` is the part of RFT that waits for the memory to be read."""

    sft: float
    rft: float
    decode: float


def hours(of: Shape, gpu: Gpu, settings: PolicySettings) -> Hours:
    """SFT on all traces; RFT_STEPS steps of RFT: a step decodes its rollouts side by side, each token of
    them reading all weights and half a cache, then runs the reference once and learns once. Prompts are read
    once, so a server with a prefix cache is assumed."""
    row = length(of, settings)
    pictures = 1 + STEPS * ZOOM_SHARE
    once = forward(of, row.tokens, row.patches, pictures)
    again = learned(of, row.tokens, row.patches)
    rollouts = PROMPTS * GROUP
    said = (STEPS + 1) * settings.tokens_per_turn
    read = 2.0 * (of.decoder + rollouts * of.cached * row.tokens / 4)
    decode = said * read / (gpu.bytes * READ)
    computed = rollouts * (2 * once + again) / (gpu.flops * USED)
    return Hours(
        TRACES * EPOCHS * again / (gpu.flops * USED) / HOUR,
        RFT_STEPS * (decode + computed) / HOUR,
        RFT_STEPS * decode / HOUR,
    )


@dataclass(frozen=True, slots=True)
class Anchor:
    """Measured on one core of this machine, in CPU seconds: the nano policy's rates."""

    weights: int
    row: int  # tokens of each of the 16 rows of a step
    trained: float  # tokens a second
    decoded: float  # tokens a second, 64 rollouts side by side
    flops: float  # a second while training, three forward passes a step as torch counts them
    product: float  # a second, of a matrix product


def measure() -> Anchor:
    """Three steps and one turn of nano; under a minute of one core."""
    import numpy as np
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from pixelis_pipeline.agent import nano, render, tokenizer
    from pixelis_pipeline.agent.batch import collate
    from pixelis_pipeline.agent.decode import generate

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model, encode = nano.build(nano.configuration(), 0), tokenizer.shared().encode
    turns = [render.Turn('<think>Look.</think><call>SEG {"box":[1,2,3,4]}</call>', "box 1 2 3 4 area 5")] * 6
    question = "What colour is the largest shape?"
    row = encode(render.render(render.nano(), question, turns, "<answer>red</answer>")).ids
    picture = np.zeros((128, 128, 3), np.uint8)
    batch = collate([row] * 16, [picture] * 16, "right")
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        scores = model.lm_head(nano.hidden_states(model, batch)[:, :-1])
        torch.nn.functional.cross_entropy(scores.flatten(0, 1), batch.ids[:, 1:].flatten()).backward()
        optimiser.step()
        optimiser.zero_grad()

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.lm_head(nano.hidden_states(model, batch))
    step()
    trained = _cpu(step, 3)
    prompts, said = [render.render(render.nano(), question, ())] * 64, []

    def turn() -> None:
        said.extend(generate(model, prompts, [picture] * 64, tokens=31, temperature=1.0, seed=0))

    decoded = _cpu(turn, 1)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    product = _cpu(lambda: a @ b, 5)
    torch.set_num_threads(threads)
    return Anchor(
        weights=nano.parameters(model),
        row=len(row),
        trained=16 * len(row) / trained,
        decoded=sum(len(encode(text).ids) for text in said) / decoded,
        flops=3.0 * counter.get_total_flops() / trained,
        product=2.0 * 1024**3 / product,
    )


def _cpu(work: Callable[[], object], times: int) -> float:
    """CPU seconds of one call, which other work on the machine lengthens little."""
    started = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - started) / times


def suite() -> list[Measurement]:
    """Measure nano, write docs/COMPUTE_BUDGET.md, and return what was measured."""
    anchor = measure()
    settings = load(OUT, "gpu80").policy
    replace(PAGE, page(anchor, [shape(each) for each in POLICIES.values()], settings).encode())
    return [
        measured("nano, tokens trained on", anchor.trained, "a core second"),
        measured("nano, tokens decoded, 64 side by side", anchor.decoded, "a core second"),
        measured("nano, arithmetic while training", anchor.flops / 1e9, "GFLOP/s"),
        measured("a matrix product", anchor.product / 1e9, "GFLOP/s"),
    ]


def _memory_row(of: Shape, phase: str, gpus: int, settings: PolicySettings) -> str:
    held = memory(of, phase, gpus, settings)
    parts = (held.weights, held.adapters, held.gradients, held.optimiser, held.activations, held.cache)
    cells = " | ".join(f"{part / GB:.1f}" if part else "" for part in parts)
    fits = "yes" if held.total <= ROOM * GPUS[0].memory else "**no**"
    return f"| {PHASES[phase]} | {gpus} | {cells} | {held.total / GB:.1f} | {fits} |"


def _hours_row(of: Shape, name: str, gpu: Gpu, settings: PolicySettings) -> str:
    took = hours(of, gpu, settings)
    study = STUDY[0] * took.sft + STUDY[1] * took.rft
    cells = (took.sft, took.rft, took.decode, study)
    return (
        f"| `{name}` | {gpu.name} | {' | '.join(f'{cell:,.0f}' for cell in cells)} | {study / 8 / 24:.1f} |"
    )


def page(anchor: Anchor, shapes: Sequence[Shape], settings: PolicySettings) -> str:
    """docs/COMPUTE_BUDGET.md, whole."""
    names = {id(published): name for name, published in POLICIES.items()}
    found = [(names[id(of.published)], of) for of in shapes]
    return TEMPLATE.render(
        anchor=anchor,
        policies=[
            {
                "name": name,
                "of": of,
                "length": length(of, settings),
                "memory": [_memory_row(of, phase, gpus, settings) for phase in PHASES for gpus in (1, 8)],
            }
            for name, of in found
        ],
        hours=[_hours_row(of, name, gpu, settings) for name, of in found for gpu in GPUS],
        settings=settings,
        gpus=GPUS,
        **{name: globals()[name] for name in SHOWN},
    )
