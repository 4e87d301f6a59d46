"""OCR by rapidocr's weights: planted text is read, in order, however it stands; and the authors' pictures."""

import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from pixelis_pipeline.media import files, image
from pixelis_pipeline.settings import MediaLimits
from pixelis_pipeline.tools.contract import Observation, OcrArguments, Workspace, to_wire
from pixelis_pipeline.tools.lines import Line, in_reading_order
from pixelis_pipeline.tools.ocr import RapidOcr
from pixelis_pipeline.verify.metrics import plain, similarity
from pixelis_pipeline.world.lettering import font

PAPER, INK = (244, 243, 238), (25, 20, 30)
OCR = RapidOcr()


def read(picture: np.ndarray, box: tuple[int, int, int, int] | None = None) -> Observation:
    return OCR(Workspace([np.ascontiguousarray(picture)]), OcrArguments(box=box))


def sheet(width: int, height: int, *written: tuple[str, int, int, int]) -> np.ndarray:
    """Paper with (text, left, top, em in px) written on it."""
    paper = Image.new("RGB", (width, height), PAPER)
    for text, x, y, size in written:
        ImageDraw.Draw(paper).text((x, y), text, INK, font("DejaVuSans", size))
    return np.asarray(paper)


def file_of(picture: Image.Image, form: str = "PNG", **more: object) -> np.ndarray:
    """A picture as it comes back from a file, by the project's own reader."""
    stream = io.BytesIO()
    picture.save(stream, form, **more)
    return image.pixels(stream.getvalue(), form, f"a.{form.lower()}", MediaLimits())


SENTENCE = sheet(330, 40, ("Every frozen teacher 1866", 8, 6, 22))
PAGE = sheet(
    520,
    210,
    ("Notes that were written on both sides", 15, 10, 22),
    *(
        (text, 15, 60 + 30 * n, 16)
        for n, text in enumerate(("the river is wide", "and the stone is", "too round for him"))
    ),
    *(
        (text, 270, 60 + 30 * n, 16)
        for n, text in enumerate(("who carried a lamp", "over the old hills", "before it was day"))
    ),
    ("so it was told to us in the valley of the seven mills", 15, 165, 16),
)
PAGE_TEXT = (
    "Notes that were written on both sides the river is wide and the stone is too round for him "
    "who carried a lamp over the old hills before it was day "
    "so it was told to us in the valley of the seven mills"
)


@pytest.mark.parametrize("turns", range(4))
def test_a_line_is_read_however_the_picture_was_turned(turns: int) -> None:
    found = read(np.rot90(SENTENCE, turns))
    assert found.output["text"] == "Every frozen teacher 1866" and found.confidence > 0.8


@pytest.mark.parametrize("turns", range(4))
def test_columns_are_read_one_after_the_other(turns: int) -> None:
    assert similarity(PAGE_TEXT, read(np.rot90(PAGE, turns)).output["text"]) > 0.97


@pytest.mark.parametrize("degrees", [-9, 5])
def test_a_skewed_page_keeps_its_order(degrees: int) -> None:
    turned = Image.fromarray(PAGE).rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=PAPER)
    assert similarity(PAGE_TEXT, read(np.asarray(turned)).output["text"]) > 0.97


def test_a_table_is_read_row_by_row() -> None:
    rows = (("Tea", "2.40"), ("Coffee", "3.10"), ("Bread roll", "0.95"), ("Water", "1.00"))
    cells = [
        (t, x, 10 + 34 * n, 18) for n, row in enumerate(rows) for t, x in zip(row, (15, 190), strict=True)
    ]
    assert read(sheet(260, 150, *cells)).output["text"] == "Tea 2.40 Coffee 3.10 Bread roll 0.95 Water 1.00"


def test_small_print_beside_large() -> None:
    assert read(sheet(240, 110, ("LARGE", 10, 10, 44), ("small print", 12, 80, 12))).output["text"] == (
        "LARGE small print"
    )


def test_text_that_touches_its_box_on_every_side() -> None:
    grey = SENTENCE.mean(axis=2) < 130
    ys, xs = np.flatnonzero(grey.any(1)), np.flatnonzero(grey.any(0))
    height, width = SENTENCE.shape[:2]
    tight = to_wire((xs[0], ys[0], xs[-1] + 1, ys[-1] + 1), width, height)
    assert read(SENTENCE, tight).output["text"] == "Every frozen teacher 1866"


@pytest.mark.parametrize("em", [12, 16, 30, 60])
def test_words_of_any_size(em: int) -> None:
    assert read(sheet(7 * em, 2 * em, ("Lantern 7", em // 2, em // 3, em))).output["text"] == "Lantern 7"


def test_lines_lie_where_the_text_stands() -> None:
    picture = sheet(400, 300, ("copper", 40, 50, 24), ("lantern", 200, 200, 24))
    found = read(picture, (0, 500, 999, 999))
    (line,) = found.output["lines"]
    assert found.output["text"] == line["text"] == found.text == "lantern"
    assert found.confidence == pytest.approx(line["confidence"], abs=0.006)
    ys, xs = np.nonzero(picture[150:].mean(axis=2) < 130)
    ink = np.array([xs.min(), 150 + ys.min(), xs.max() + 1, 151 + ys.max()])
    told = np.array(line["box"]) * (400, 300, 400, 300) / 999
    outwards = (told - ink) * (-1, -1, 1, 1)
    assert outwards.min() > -2 and outwards.max() < 12  # px; the detector leaves up to half an em around


@pytest.mark.parametrize(
    "size", [(1, 1), (3, 400), (400, 3), (20, 20), (64, 300), (300, 64), (8, 3000)], ids=str
)
def test_an_empty_picture_is_a_valid_call_without_text(size: tuple[int, int]) -> None:
    for shade in (0, 235):
        found = read(np.full((*size, 3), shade, np.uint8))
        assert found.valid and found.output == {"text": ""} and found.confidence == 0


def test_a_huge_picture_is_bounded() -> None:
    """The detector sees it reduced, the recogniser its own pixels."""
    picture = np.full((3000, 4000, 3), 240, np.uint8)
    cv2.putText(picture, "harbour", (600, 1500), cv2.FONT_HERSHEY_SIMPLEX, 8, (20, 20, 20), 16)
    assert read(picture).output["text"] == "harbour"


def test_turned_by_exif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(SENTENCE)))
    assert np.array_equal(file_of(stored, exif=exif), SENTENCE)
    assert read(file_of(stored, "JPEG", exif=exif, quality=92)).output["text"] == "Every frozen teacher 1866"


def test_black_on_transparent_and_one_bit() -> None:
    clear = Image.new("RGBA", (330, 40), (0, 0, 0, 0))
    ImageDraw.Draw(clear).text((8, 6), "Every frozen teacher", (0, 0, 0, 255), font("DejaVuSans", 22))
    assert read(file_of(clear)).output["text"] == "Every frozen teacher"
    assert read(file_of(Image.fromarray(SENTENCE).convert("1"))).output["text"] == "Every frozen teacher 1866"


def test_the_same_picture_gives_the_same_artifact() -> None:
    first = read(PAGE)
    read(SENTENCE)
    assert read(PAGE).artifact == first.artifact
    assert first.version == OCR.version != RapidOcr(side=320).version


def test_a_smaller_side_reads_less() -> None:
    """What the world's pages rest on: letters that are too small for a coarse detector."""
    picture = sheet(800, 800, ("a line of small letters", 300, 400, 11))
    coarse = RapidOcr(side=160)(Workspace([picture]), OcrArguments())
    assert coarse.output == {"text": ""} and read(picture).output["text"] == "a line of small letters"


def placed(text: str, x: float, y: float, wide: float, high: float = 10) -> Line:
    return Line(text, 1.0, np.array([[x, y], [x + wide, y], [x + wide, y + high], [x, y + high]]))


def test_order_of_three_columns_under_a_heading_by_their_boxes() -> None:
    heading, foot = placed("h", 0, 0, 320), placed("f", 0, 90, 320)
    columns = [[placed(f"{c}{r}", 110 * c, 20 + 15 * r, 90) for r in range(4)] for c in range(3)]
    wanted = [heading, *(line for column in columns for line in column), foot]
    for seed in range(5):
        mixed = [wanted[i] for i in np.random.default_rng(seed).permutation(len(wanted))]
        assert [line.text for line in in_reading_order(mixed)] == [line.text for line in wanted]


def test_rows_of_uneven_height_do_not_run_together() -> None:
    """Each box lies a little lower than the one before it: a chain of neighbours is not one row."""
    steps = [placed(str(n), 300 - 40 * n, 4 * n, 30) for n in range(6)]
    assert [line.text for line in in_reading_order(steps)] != [str(n) for n in reversed(range(6))]


ROOT = Path(os.environ.get("PIXELIS_REALDATA", ""))
real = pytest.mark.skipif(
    "PIXELIS_REALDATA" not in os.environ, reason="PIXELIS_REALDATA names no folder of authors' files"
)


def of_file(path: Path) -> str:
    data = files.read(path, MediaLimits())
    form = files.sniff(data)
    assert form is not None
    return str(read(image.pixels(data, form, path.name, MediaLimits())).output["text"])


AUTHORS = {
    "en_rec.jpg": "To facilitate the shot type analysis in videos, we collect MovieShots, a large-scale",
    "text_rec.jpg": "韩国小馆",
    "text_cls.jpg": "怪我咯",
    "black_font_color_transparent.png": "我是中国人",
    "issue_170.png": "TEST",
    "empty_black.jpg": "",
}


@real
@pytest.mark.parametrize("name", AUTHORS)
def test_pictures_of_rapidocr(name: str) -> None:
    assert of_file(ROOT / "ocr_rapidocr" / name) == AUTHORS[name]


@real
def test_sheet_of_rapidocr() -> None:
    assert of_file(ROOT / "ocr_rapidocr" / "ch_en_num.jpg").startswith("正品促销")


@real
@pytest.mark.slow
def test_page_of_pytesseract_in_every_format() -> None:
    names = ("test.jpg", "test.png", "test.tiff", "test.gif", "test.webp", "test.pgm")
    texts = {name: of_file(ROOT / "ocr_pytesseract" / name) for name in names}
    assert all("The quick brown dog jumped over the lazy fox" in text for text in texts.values()), texts
    assert min(similarity(plain(texts["test.png"]), plain(text)) for text in texts.values()) > 0.99
