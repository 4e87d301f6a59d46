"""Whether an answer is right, by the kind of answer its question asks for.

One rule per kind, with no model in the loop:

- choice: the option's letter ("B", "(b)", a circled B, "B. cat", "the answer is B") or its text;
- integer: the one number the answer holds, equal;
- float: the one number, rounded to as many decimals as the true answer shows (MathVista's precision);
- list: the same items in the same order;
- span: "1.5-4.0" in seconds, tIoU >= .5 with the true one or both ends within a second of it;
- text: equal after `metrics.plain`, or equal as numbers. Only sources in `ANLS_SOURCES` grade text by
  ANLS >= .5, as their authors do.

A true answer may name alternatives, `a <OR> b`, and parts that must all be said, `a <AND> b` (MM-Vet).
"""

import re
import unicodedata
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

from pixelis_pipeline.records import Question
from pixelis_pipeline.verify.metrics import ANLS_FLOOR, anls, plain, span_iou

ANLS_SOURCES = frozenset({"infovqa"})
SPAN_IOU, SPAN_SECONDS = 0.5, 1.0  # as replay compares spans (spec, "Validation")
LONGEST = 10_000  # characters of an answer that are looked at

_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?![\w]*\d)")
_SPAN = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) ?(?:-|–|to) ?(\d{1,6}(?:\.\d{1,6})?) ?s?")
_STATED = re.compile(r"\banswer\s*(?:is|:)?\s*:?\s*\(?([a-z])\)?(?![\w'])", re.IGNORECASE)
_LEADING = re.compile(r"(?:option|choice)?\s*[(\[]?([a-z])(?:[)\].:]+(?:\s|$)|$)", re.IGNORECASE)


def right(question: Question, answer: str) -> bool:
    """Whether `answer` answers the question correctly. An empty answer never does."""
    said = unicodedata.normalize("NFKC", answer[:LONGEST]).strip()
    if not said:
        return False
    if question.answer_kind == "choice":
        truth = option(question.choices, question.answer)
        return truth is not None and truth == option(question.choices, said)
    alternatives = [part.strip() for part in question.answer.split("<OR>")]
    if question.answer_kind == "text" and question.origin.source in ANLS_SOURCES:
        return anls(alternatives, said) >= ANLS_FLOOR
    return any(_says(question.answer_kind, truth, said) for truth in alternatives)


def wrong(question: Question, answer: str) -> bool:
    """Whether `answer` is proven wrong: it can be read as an answer of its kind, and is not the right one.

    What names the truth among other words, or cannot be read, is neither right nor proven wrong.
    """
    said = unicodedata.normalize("NFKC", answer[:LONGEST]).strip()
    if not plain(said) or right(question, answer):
        return False
    if question.answer_kind == "choice":
        return option(question.choices, said) is not None
    if question.answer_kind in ("integer", "float"):
        return number(said) is not None
    if question.answer_kind == "span":
        return span(said) is not None
    heard = f" {plain(said)} "
    if question.answer_kind == "list":  # "lantern and harbour" says what "lantern, harbour" does
        items = "(?= ).*".join(f" {re.escape(item)}" for item in _items(question.answer))
        return re.search(f"{items} ", heard) is None
    truths = question.answer.replace("<AND>", "<OR>").split("<OR>")
    return not any(f" {plain(truth)} " in heard for truth in truths if plain(truth))


def _says(kind: str, truth: str, said: str) -> bool:
    if "<AND>" in truth:
        heard = f" {plain(said)} "
        return all(f" {plain(part)} " in heard for part in truth.split("<AND>"))
    if kind == "integer":
        return number(truth) is not None and number(truth) == number(said)
    if kind == "float":
        return _same_float(truth, said)
    if kind == "span":
        return _same_span(truth, said)
    if kind == "list":
        return _items(truth) == _items(said)
    return _same_text(truth, said)


def option(choices: tuple[str, ...], text: str) -> int | None:
    """Which option a text names, counted from 0: by its own words, else by its letter. None where it
    names none. Without choices any letter stands for its place in the alphabet."""
    text = unicodedata.normalize("NFKC", text).strip()
    words = [plain(choice) for choice in choices]
    if plain(text) and plain(text) in words:
        return words.index(plain(text))
    found = _LEADING.match(text)
    stated = _STATED.findall(text)
    letter = found.group(1) if found else stated[-1] if stated else ""
    if letter:
        index = ord(letter.lower()) - ord("a")
        return index if not choices or index < len(choices) else None
    return None


def number(text: str) -> Decimal | None:
    """The number a text holds, if it holds exactly one; thousands may be grouped by commas."""
    found = [
        hit for hit in _NUMBER.findall(unicodedata.normalize("NFKC", text)) if any(map(str.isdigit, hit))
    ]
    if len(found) != 1:
        return None
    try:
        return Decimal(found[0].replace(",", ""))
    except InvalidOperation:
        return None


def _same_float(truth: str, said: str) -> bool:
    a, b = number(truth), number(said)
    if a is None or b is None:
        return False
    exponent = a.as_tuple().exponent
    unit = Decimal(1).scaleb(min(exponent, 0) if isinstance(exponent, int) else 0)
    try:
        return b.quantize(unit, ROUND_HALF_EVEN) == a
    except InvalidOperation:  # too many digits to be near anything
        return False


def span(text: str) -> tuple[float, float] | None:
    """The time span "start-end" in seconds that a text is; None where it is none."""
    found = _SPAN.fullmatch(text.strip())
    start, end = (float(found[1]), float(found[2])) if found else (0.0, 0.0)
    return (start, end) if start < end else None


def _same_span(truth: str, said: str) -> bool:
    a, b = span(truth), span(said)
    if a is None or b is None:
        return False
    near = max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= SPAN_SECONDS
    return near or span_iou(a, b) >= SPAN_IOU


def _items(text: str) -> list[str]:
    return [plain(item) for item in text.strip(" []()").split(",")]


def _same_text(truth: str, said: str) -> bool:
    a, b = plain(truth), plain(said)
    if a and a == b:
        return True
    if not a:  # an answer that is punctuation alone
        return truth.strip() == said
    numbers = [re.fullmatch(r"[-+]?[\d,]*\.?\d+", text.strip()) for text in (truth, said)]
    return all(numbers) and number(truth) is not None and number(truth) == number(said)
