"""Error rates against dinglehopper's own vectors and files."""

import json
import math
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelis_pipeline.verify.metrics import edit_distance
from pixelis_pipeline.verify.text import cer, characters, distance, wer, words

REALDATA = os.environ.get("PIXELIS_REALDATA")
FOLDER = Path(REALDATA or "") / "ocr_cer_dinglehopper"
real = pytest.mark.skipif(not REALDATA, reason="PIXELIS_REALDATA names no folder of real files")

short = st.text("abß ñ\u0303ﬁ-.", max_size=12)


def _slow(a: str, b: str) -> int:
    """Levenshtein's distance as its definition says it, row by row."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (left != right))
    return row[-1]


@settings(max_examples=200, deadline=None)
@given(st.text("abcd\U0001f600é", max_size=80), st.text("abcd\U0001f600é", max_size=80))
def test_edit_distance_is_exact(a: str, b: str) -> None:
    assert edit_distance(a, b) == edit_distance(b, a) == distance(a, b) == _slow(a, b)


def test_edit_distance_of_texts_longer_than_a_machine_word() -> None:
    a = "abcdefghij" * 30
    b = a[:150].replace("d", "") + a[150:].replace("g", "GG")
    assert edit_distance(a, b) == _slow(a, b) == 15 + 30


@settings(max_examples=100, deadline=None)
@given(short, short)
def test_bounds_and_identity(truth: str, said: str) -> None:
    for form in ("NFC", "NFKC"):
        n, m = len(characters(truth, form)), len(characters(said, form))
        assert cer(truth, truth, form=form) == wer(truth, truth, form=form) == 0.0
        if n:
            rate = cer(truth, said, form=form)
            assert abs(n - m) / n <= rate <= max(n, m) / n
        assert "".join(characters(truth, form)) == "".join(characters("".join(characters(truth, form)), form))


def test_the_form_is_what_folds_a_ligature() -> None:
    assert cer("fiel", "ﬁel", form="NFC") == 2 / 4
    assert cer("fiel", "ﬁel", form="NFKC") == 0.0
    assert characters("n\u0303a", "NFC") == ["ñ", "a"]
    assert len(characters("🇩🇪👨\u200d👩\u200d👧", "NFC")) == 2


def test_words() -> None:
    assert words("It's 12.5 kg, (really) – yes!", "NFC") == ["It's", "12.5", "kg", "really", "yes"]
    assert words("\ueba2ber alle\ue8bf", "NFC") == ["\ueba2ber", "alle\ue8bf"]
    assert words(" .,;\n", "NFC") == words("", "NFC") == []


def test_the_order_of_arguments_matters() -> None:
    assert cer("Foo", "", form="NFC") == 1.0
    assert cer("", "Foo", form="NFC") == wer("", "Foo", form="NFC") == math.inf
    assert cer("", "", form="NFC") == wer("", "", form="NFC") == wer("!", "?", form="NFC") == 0.0
    assert cer("ab", "abcdef", form="NFC") == 2.0


@real
def test_the_authors_vectors() -> None:
    expected = json.loads((FOLDER / "expected.json").read_text())
    for truth, said, value in expected["cer"]:
        assert cer(truth, said, form="NFC") == pytest.approx(float(value)), (truth, said)
    for truth, said, value in expected["wer"]:
        assert wer(truth, said, form="NFC") == pytest.approx(float(value)), (truth, said)
    decomposed = "Schlyn\u0303 lorem ipsum"
    graphemes = [("Schlyñ lorem ipsum.", f"{decomposed}!"), ("Schlym̃", "Schlyñ"), ("Schlyñ", "Schlym̃")]
    for (truth, said), case in zip(graphemes, expected["cer_grapheme"], strict=True):
        assert cer(truth, said, form="NFC") == pytest.approx(case["value"])


def _page(path: Path) -> str:
    """The text regions of a PAGE file in reading order (or as they stand), a line break between two."""
    root = ET.parse(path).getroot()
    space = root.tag[: root.tag.index("}") + 1]
    regions = {region.get("id"): region for region in root.iter(f"{space}TextRegion")}
    order = [
        (int(ref.get("index", 0)), ref.get("regionRef")) for ref in root.iter(f"{space}RegionRefIndexed")
    ]
    names = [name for _, name in sorted(order)] or list(regions)
    texts = [regions[name].find(f"{space}TextEquiv/{space}Unicode") for name in names]
    return "\n".join(found.text or "" for found in texts if found is not None)


def _alto(path: Path) -> str:
    root = ET.parse(path).getroot()
    space = root.tag[: root.tag.index("}") + 1]
    lines = root.iter(f"{space}TextLine")
    return "\n".join(
        " ".join(word.get("CONTENT", "") for word in line.iter(f"{space}String")) for line in lines
    )


@real
def test_the_authors_pages() -> None:
    truth, said = (_page(FOLDER / f"test-{name}.page2018.xml") for name in ("gt", "fake-ocr"))
    for form, apart in (("NFKC", 2), ("NFC", 4)):  # two ligatures stand unfolded under NFC
        assert distance(characters(truth, form), characters(said, form)) == apart
    assert len(words(truth, "NFKC")) == 130
    assert wer(truth, said, form="NFKC") == pytest.approx(2 / 130)

    lorem = FOLDER / "lorem-ipsum"
    truth, said = (
        _page(lorem / "lorem-ipsum-scan.gt.page.xml"),
        _alto(lorem / "lorem-ipsum-scan.ocr.tesseract.alto.xml"),
    )
    assert len(characters(truth, "NFC")) == 591
    assert cer(truth, said, form="NFC") == wer(truth, said, form="NFC") == 0.0


@real
@pytest.mark.parametrize(("encoding", "letters", "wrong"), [("utf-8", 2, 2), ("cp1252", 3, 3)])
def test_the_authors_lines(encoding: str, letters: int, wrong: int) -> None:
    """The printed .1071429 and .5 come out when one line's UTF-8 is read as Windows-1252: its Ö is then
    two signs. Read as it was written, the lines have one error less."""
    basic = FOLDER / "line_dirs" / "basic"
    pairs = [
        (
            (basic / "gt" / f"{n}.gt.txt").read_text().strip(),
            (basic / "ocr" / f"{n}.some-ocr.txt").read_bytes(),
        )
        for n in "ab"
    ]
    read = [(truth, said.decode(encoding).strip()) for truth, said in pairs]
    assert sum(distance(characters(a, "NFC"), characters(b, "NFC")) for a, b in read) == letters
    assert sum(distance(words(a, "NFC"), words(b, "NFC")) for a, b in read) == wrong
    if encoding == "cp1252":
        expected = json.loads((FOLDER / "expected.json").read_text())["files"]["line_dirs/basic gt vs ocr"]
        assert letters / sum(len(characters(a, "NFC")) for a, _ in read) == pytest.approx(expected["cer"])
        assert wrong / sum(len(words(a, "NFC")) for a, _ in read) == pytest.approx(expected["wer"])
