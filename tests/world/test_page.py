"""Pages: what is printed is what is told; read whole they are too small, enlarged they are not."""

import cv2
import imagehash
import numpy as np
from PIL import Image

from pixelis_pipeline.tools.contract import OcrArguments, Workspace
from pixelis_pipeline.tools.ocr import RapidOcr
from pixelis_pipeline.world.language import passage
from pixelis_pipeline.world.page import page_seed, render_page


def _text(seed: int) -> str:
    return passage(np.random.default_rng(seed), 300)


def test_same_seed_same_page_other_seed_other_page() -> None:
    first, words = render_page(_text(1), 5)
    again, words_again = render_page(_text(1), 5)
    assert np.array_equal(first, again) and words == words_again
    assert not np.array_equal(first, render_page(_text(1), 6)[0])
    assert page_seed("a") == page_seed("a") != page_seed("b")
    assert 0 <= page_seed("a") < 2**63


def test_words_are_in_order_and_their_boxes_hold_the_ink() -> None:
    text = _text(2)
    page, words = render_page(text, 3)
    assert [w["text"] for w in words] == text.split()[: len(words)] and len(words) > 100
    assert [w["line"] for w in words] == sorted(w["line"] for w in words)
    for word in words:
        x0, y0, x1, y1 = word["box"]
        assert 0 <= x0 < x1 <= page.shape[1] and 0 <= y0 < y1 <= page.shape[0]
        inside = page[y0:y1, x0:x1].astype(int).mean(axis=2)
        assert inside.min() < 130 < inside.max(), word
        assert 5 <= y1 - y0 <= 16


def test_characters_without_a_glyph_are_left_out() -> None:
    _, words = render_page("plain \U0001f600\U0001f4a9 words 漢字 here", 1)
    assert [w["text"] for w in words] == ["plain", "words", "here"]


def test_empty_text_is_an_empty_page() -> None:
    page, words = render_page("  \n ", 1)
    assert page.shape == (768, 768, 3) and words == []


def test_pages_differ_by_phash() -> None:
    pages = [render_page(_text(seed), seed, 384, 384)[0] for seed in range(60)]
    codes = np.array([imagehash.phash(Image.fromarray(p)).hash for p in pages]).reshape(60, 64)
    distance = (codes[:, None] != codes[None]).sum(axis=2)
    np.fill_diagonal(distance, 64)
    assert (distance.min(axis=1) <= 8).mean() <= 0.05


def test_too_small_to_read_whole_and_legible_enlarged() -> None:
    ocr = RapidOcr(side=240)
    whole = enlarged = asked = 0
    for seed in range(4):
        page, words = render_page(_text(seed), seed)
        seen = ocr(Workspace([page]), OcrArguments()).output["text"].lower().split()
        for index in np.random.default_rng(seed).permutation(len(words))[:5]:
            x0, y0, x1, y1 = words[index]["box"]
            crop = cv2.resize(page[max(y0 - 3, 0) : y1 + 3, max(x0 - 3, 0) : x1 + 3], None, fx=4, fy=4)
            wanted = words[index]["text"].lower().strip(".,")
            read = ocr(Workspace([crop]), OcrArguments()).output["text"].lower().strip(".,")
            asked += 1
            whole += wanted in [w.strip(".,") for w in seen]
            enlarged += read == wanted
    assert enlarged >= 0.9 * asked
    assert whole <= 0.35 * asked
