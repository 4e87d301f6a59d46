"""The render contract: everything between a question and the tokens a policy sees, frozen and hashed.

A checkpoint stores the contract it was trained under; loading it under another one is refused, because a
policy that is shown something else than in training is measured wrongly without any error.
"""

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import jinja2

from pixelis_pipeline.agent import pixels, tokenizer
from pixelis_pipeline.agent.film import Film
from pixelis_pipeline.agent.grammar import plain
from pixelis_pipeline.records import Json, Media, Question, canonical
from pixelis_pipeline.tools.contract import ARGUMENTS
from pixelis_pipeline.tools.registry import schemas

SYSTEM = "Answer the question about the picture or video. Tools: SEG TRK OCR ZOOM TEMP PROP."
_SLOT = re.compile("\0(\\d+)(p?)\0")  # stands in the rendered template for a text that is not its own
HISTORY = (
    "All turns are kept. The picture of the question is shown once; the crops that ZOOM makes are not "
    "shown, they are read through the tools that take an image index."
)
CROPS = "All turns are kept. The picture of the question is shown once, each crop with the turn that made it."
FILMS = CROPS + " Of a video the frames that begin its equal parts are shown, each with its time and number."
NARROW = " A picture over 200 times as long as it is wide is not shown."
BLIND = "All turns are kept. No picture is shown; what is in it is read through the tools."
FIRST_SYSTEM = "Answer the question about the picture. Tools: SEG ZOOM OCR PROP."
EDITIONS = (1, 2)  # of nano's contract: the first has neither crops nor films, and of the tools only four
INSTRUCTIONS = """\
Answer the question about {picture}. Write one turn at a time: a thought and one call, or the answer.
<think>thought</think><call>NAME {{"argument":value}}</call>
<answer>answer</answer>
What the tool returns follows the call. Coordinates are integers 0-999 over a picture's width and height.
Tools, with JSON schemas of their arguments:
{tools}"""


@dataclass(frozen=True, slots=True)
class Marks:
    """What stands before and after each part of the conversation, in the special tokens of a vocabulary.
    `vision` is None for a policy without sight."""

    system: tuple[str, str]
    user: tuple[str, str]
    heard: tuple[str, str]
    vision: tuple[str, str] | None
    image: str


NANO = Marks(
    system=("<system>", "</system>"),
    user=("<user>", "</user>"),
    heard=("<obs>", "</obs>"),
    vision=("<vision>", "</vision>"),
    image="<image>",
)
QWEN = Marks(  # ChatML, as the Qwen models were trained on it; what a tool returns is a turn of the user's
    system=("<|im_start|>system\n", "<|im_end|>\n"),
    user=("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"),
    heard=(
        "<|im_end|>\n<|im_start|>user\n<tool_response>\n",
        "\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
    ),
    vision=("<|vision_start|>", "<|vision_end|>"),
    image="<|image_pad|>",
)


def template(marks: Marks, crops: bool = False, films: bool = False) -> str:
    """The one chat template, written in the marks of a vocabulary. With `crops` a turn that made a picture
    shows it before its words; with `films` a question about a video begins with words about it and frames."""

    def around(pair: tuple[str, str], inner: str) -> str:
        return pair[0] + inner + pair[1]

    def shown(count: str) -> str:
        return around(marks.vision, f"{{{{ '{marks.image}' * {count} }}}}") if marks.vision else ""

    frame = "{{ frame.told }}" + shown("frame.tokens")
    film = "{{ film }}{% for frame in frames %}" + frame + "{% endfor %}"
    opening = film if films and marks.vision else "{{ film }}" if films else shown("image_tokens")
    crop = "{% if turn.tokens %}" + shown("turn.tokens") + "{% endif %}" if crops else ""
    return (
        around(marks.system, "{{ system }}")
        + around(marks.user, opening + "{{ question | plain }}")
        + "{% for turn in turns %}{{ turn.said }}"
        + around(marks.heard, crop + "{{ turn.heard | plain }}")
        + "{% endfor %}{{ ending }}"
    )


class RenderMismatch(ValueError):
    """A checkpoint that was trained under another render contract."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One past turn: what the policy said, word for word, the observation it heard, and height and width
    of the picture that came with it."""

    said: str
    heard: str
    picture: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a conversation. `marks` tells whether marks that stand in it are marks: in the template's own
    words and in a turn written by the grammar they are, in what the template filters as `plain` never."""

    text: str
    marks: bool


@dataclass(frozen=True, slots=True)
class Contract:
    """All that decides what a policy is shown. `tools` are the schemas its calls are checked against;
    `tokenizer` the sha256 of the tokenizer's JSON; `pixels` how a picture becomes patches, empty for a
    policy without sight."""

    template: str
    system: str
    tools: tuple[Json, ...]
    pixels: Json
    tokenizer: str
    history: str

    @property
    def digest(self) -> str:
        """sha256 hex over the whole contract."""
        return hashlib.sha256(canonical(asdict(self))).hexdigest()

    @property
    def crops(self) -> bool:
        """Whether the pictures that turns make are shown too."""
        return bool(self.pixels.get("crops"))

    @property
    def films(self) -> bool:
        """Whether a question about a video tells of the whole of it. Else it shows its first frame alone."""
        return "{{ film }}" in self.template

    def shows(self, media: Sequence[Media]) -> bool:
        """Whether a question about these media is shown whole: of a video a policy of pictures sees one."""
        return self.films or all(each.kind == "image" for each in media)

    def frames(self, film: Film | None) -> list[int]:
        """Which frames of the question's video are shown; none where it has none, or its first picture
        stands for it."""
        return film.shown(self.pixels["frames"]) if film and "frames" in self.pixels else []

    def tokens(self, height: int, width: int) -> int:
        """How many image tokens a picture of that size is shown as; 0 where it is not shown."""
        if not self.pixels or "tokens" in self.pixels:
            return int(self.pixels.get("tokens", 0))
        bounds = {name: self.pixels[name] for name in ("unit", "least", "most")}
        rows, columns = pixels.merged(height, width, **bounds)
        return rows * columns

    def write(self, path: Path) -> None:
        """Store the contract with its digest as JSON."""
        path.write_text(json.dumps({"digest": self.digest, **asdict(self)}, indent=1) + "\n")

    def check(self, path: Path) -> None:
        """Raise RenderMismatch unless the contract stored at `path` is this one."""
        stored = json.loads(path.read_text())
        if stored.get("digest") != self.digest:
            ours = json.loads(canonical(asdict(self)))
            changed = sorted(key for key, value in ours.items() if stored.get(key) != value)
            raise RenderMismatch(
                f"{path}: the checkpoint was trained under render contract {str(stored.get('digest'))[:12]}, "
                f"this code renders {self.digest[:12]}; {', '.join(changed) or 'digest'} differ. "
                "Train it again, or check out the code that it was trained with."
            )


@functools.cache
def nano(sees: bool = True, edition: int = EDITIONS[-1]) -> Contract:
    """The contract of the nano policy, or of its text-only kin. A policy is what it was trained to be: one of
    an earlier `edition` is shown what that one shows. ValueError for an edition that there is not."""
    if edition not in EDITIONS:
        raise ValueError(f"there is no edition {edition} of the render contract, only {EDITIONS}")
    first = edition == 1
    seen = pixels.describe() | ({} if first else {"crops": True, "frames": pixels.FRAMES})
    return Contract(
        template=template(NANO if sees else replace(NANO, vision=None), sees and not first, not first),
        system=FIRST_SYSTEM if first else SYSTEM,
        tools=tuple(schemas(ARGUMENTS)),
        pixels=seen if sees else {},
        tokenizer=hashlib.sha256(tokenizer.shared().to_str().encode()).hexdigest(),
        history=BLIND if not sees else HISTORY if first else FILMS,
    )


def stored(path: Path, sees: bool) -> Contract:
    """The edition of nano's contract that is stored at `path`. RenderMismatch where it is none of them."""
    digest = json.loads(path.read_text()).get("digest")
    for contract in (nano(sees, edition) for edition in EDITIONS):
        if contract.digest == digest:
            return contract
    nano(sees).check(path)
    raise AssertionError("a contract of no edition has passed")


def qwen(tokenizer: str, pixels: Json) -> Contract:
    """The contract of a full-size policy: its vocabulary's marks, the tools' schemas in the system turn.

    `pixels` holds unit (pixels a side of a merged token), least and most (tokens a picture), patch, merge,
    mean and deviation; it is empty for a policy without sight.
    """
    tools = tuple(schemas(ARGUMENTS))
    return Contract(
        template=template(QWEN, crops=True) if pixels else template(replace(QWEN, vision=None)),
        system=INSTRUCTIONS.format(
            picture="the picture" if pixels else "a picture that only the tools can see",
            tools="\n".join(canonical(tool["function"]).decode() for tool in tools),
        ),
        tools=tools,
        pixels={**pixels, "crops": True} if pixels else {},
        tokenizer=tokenizer,
        history=CROPS + NARROW if pixels else BLIND,
    )


@functools.cache
def _template(source: str) -> jinja2.Template:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    environment.filters["plain"] = lambda slot: f"{slot[:-1]}p\0"
    return environment.from_string(source)


def made(action: str, output: Json) -> tuple[int, int] | None:
    """Height and width of the picture that a stored output of an action tells of; None where it tells of
    none."""
    told = action == "ZOOM" and "height" in output and "width" in output
    return (int(output["height"]), int(output["width"])) if told else None


def asked(question: Question) -> str:
    """A question's words as a policy reads them, its choices after it as a teacher sees them too."""
    return question.text + ("\nChoices: " + " | ".join(question.choices) if question.choices else "")


def spans(
    contract: Contract,
    question: str,
    turns: Sequence[Turn],
    ending: str = "",
    picture: tuple[int, int] = (pixels.SIDE, pixels.SIDE),
    film: Film | None = None,
) -> list[Span]:
    """The whole conversation: a prompt where `ending` is empty, a training text where it is the final turn.
    `picture` is the height and width of the question's, of a frame where it is a `film`.

    The template is filled with numbered slots and cut at them, so that no text that goes into it is ever
    searched for the template's marks.
    """
    texts: list[str] = []

    def slot(text: str) -> str:
        texts.append(text)
        return f"\0{len(texts) - 1}\0"

    tokens = contract.tokens(*picture)
    frames = [{"told": film.frame(k), "tokens": tokens} for k in contract.frames(film)] if film else []
    whole = _template(contract.template).render(
        system=contract.system,
        image_tokens=tokens,
        film=film.told if film else "",
        frames=frames or [{"told": "", "tokens": tokens}],
        question=slot(question),
        turns=[
            {
                "said": slot(turn.said),
                "heard": slot(turn.heard),
                "tokens": contract.tokens(*turn.picture) if contract.crops and turn.picture else 0,
            }
            for turn in turns
        ],
        ending=slot(ending),
    )
    made: list[Span] = []
    end = 0
    for found in _SLOT.finditer(whole):
        text, foreign = texts[int(found[1])], bool(found[2])
        made += [Span(whole[end : found.start()], True), Span(plain(text) if foreign else text, not foreign)]
        end = found.end()
    return [span for span in (*made, Span(whole[end:], True)) if span.text]


def reply(contract: Contract, heard: str, picture: tuple[int, int] | None = None) -> list[Span]:
    """What the template lays after a turn of the policy's: the observation, with height and width of the
    picture that came with it."""
    return spans(contract, "", [Turn("", heard, picture)])[len(spans(contract, "", ())) :]


def render(
    contract: Contract,
    question: str,
    turns: Sequence[Turn],
    ending: str = "",
    picture: tuple[int, int] = (pixels.SIDE, pixels.SIDE),
    film: Film | None = None,
) -> str:
    """`spans` as one text."""
    return "".join(span.text for span in spans(contract, question, turns, ending, picture, film))
