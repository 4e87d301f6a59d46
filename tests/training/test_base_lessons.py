"""What the base policy is taught is true, and only the answers are learned."""

import re

import numpy as np
import pytest
import torch

from pixelis_pipeline.agent import tokenizer
from pixelis_pipeline.agent.pixels import FRAMES, GRID
from pixelis_pipeline.media.colour import colour_shares
from pixelis_pipeline.tools.contract import to_wire
from pixelis_pipeline.world.clip import Actor, film
from pixelis_pipeline.world.scene import Scene
from pixelis_pipeline.world.shapes import SHAPES, outline
from training.base import data, reels, skills
from training.base.scenes import KINDS, TINTS, cells, draw


def scenes(count: int, progress: float = 1.0) -> list[Scene]:
    return [draw(np.random.default_rng([5, k]), progress) for k in range(count)]


def boxes(text: str) -> list[tuple[int, ...]]:
    return [tuple(map(int, found.split(","))) for found in re.findall(r"\[([\d,]+)\]", text)]


def wire(scene: Scene, box: tuple[int, int, int, int]) -> tuple[int, ...]:
    return to_wire(box, scene.image.shape[1], scene.image.shape[0])


def test_a_found_thing_is_the_only_one_that_the_words_name():
    asked = 0
    for k, scene in enumerate(scenes(40)):
        exchange = skills.find(np.random.default_rng(k), scene)
        if exchange is None:
            continue
        asked += 1
        words = set(re.findall(r"[a-z]+", exchange.question))
        named = [
            thing
            for thing in scene.things
            if (thing.colour in words or not words & set(skills.COLOURS))
            and (thing.shape in words or not words & set(skills.SHAPES))
        ]
        assert [wire(scene, thing.box) for thing in named] == boxes(exchange.answer)
    assert asked > 25


def test_labels_extremes_and_shapes_are_the_scenes_own():
    for k, scene in enumerate(scenes(40)):
        rng = np.random.default_rng(k)
        label = skills.find_label(rng, scene)
        places = [wire(scene, t.label_box) for t in scene.things if t.label_box]
        assert label is None or boxes(label.answer)[0] in places
        extreme = skills.find_extreme(rng, scene)
        if extreme is not None:
            order = sorted(scene.things, key=lambda thing: thing.area)
            wanted = order[-1] if "largest" in extreme.question else order[0]
            assert boxes(extreme.answer) == [wire(scene, wanted.box)]
        every = boxes(skills.find_all(rng, scene).answer)
        assert [box[1] for box in every] == sorted(box[1] for box in every)
        assert len(boxes(skills.caption(rng, scene).answer)) == len(scene.things)


def test_compared_areas_decide_the_answer():
    for k in range(50):
        exchange = skills.compare(np.random.default_rng(k))
        first, second = (int(heard.split()[-1]) for heard in exchange.heard)
        assert exchange.answer == ("A" if first > second else "B")


def test_no_lesson_holds_a_call():
    for k, scene in enumerate(scenes(10)):
        rng = np.random.default_rng(k)
        watched = skills.watching(rng, reels.draw(rng), 4)
        for exchange in [*skills.about(rng, scene, 6), *watched, *skills.reading(rng, 6)]:
            for text in (exchange.question, exchange.answer, *exchange.heard):
                assert not re.search(r"\b(SEG|TRK|OCR|ZOOM|TEMP|PROP) ?\{|<call>|<think>", text)


def test_only_answers_are_learned_and_only_numbers_of_the_picture_are_blurred():
    for part in data.lessons(3, 0, 8, 1.0).parts:
        decode = tokenizer.shared().decode
        for row, learned, seen in zip(part.batch.ids[:, 1:], part.learned, part.seen, strict=True):
            whole = decode(part.batch.ids[0].tolist(), skip_special_tokens=False)
            told = decode(row[learned].tolist(), skip_special_tokens=False)
            assert re.fullmatch(r"(<answer>[^<]+</answer>)+", told), whole
            numbers = decode(row[seen].tolist(), skip_special_tokens=False)
            assert re.fullmatch(r"\d*", numbers) and not bool((seen & ~learned).any())
            assert part.cells or not numbers


def test_the_same_step_gives_the_same_lessons_and_another_gives_others():
    one, same, other = (data.lessons(3, step, 2, 0.5).parts[0].batch for step in (1, 1, 2))
    assert torch.equal(one.ids, same.ids) and torch.equal(one.pixels, same.pixels)
    assert one.ids.shape != other.ids.shape or not torch.equal(one.ids, other.ids)


def test_a_cell_holds_what_covers_it():
    for scene in scenes(12):
        told = cells(scene)
        height, width = scene.image.shape[:2]
        for thing in scene.things:
            x0, y0, x1, y1 = thing.box
            column, row = int((x0 + x1) / 2 / width * GRID), int((y0 + y1) / 2 / height * GRID)
            middle = thing.mask[(y0 + y1) // 2, (x0 + x1) // 2]
            here = row * GRID + column
            if middle and thing.size == "large" and KINDS[told.kind[here]] != "label":
                assert (KINDS[told.kind[here]], TINTS[told.tint[here]]) == (thing.shape, thing.colour)
                assert tuple(told.box[here]) == wire(scene, thing.box)
        assert set(np.unique(told.kind)) <= set(range(len(KINDS)))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_large_thing_that_moves_to_the_rim_stays_in_the_picture(shape):
    wide, high = size = (256, 288)
    rim = np.array([(x, y) for x in (-9, 0.5 * wide, wide + 9) for y in (-9, 0.5 * high, high + 9)])
    for angle in range(0, 360, 17):
        corners = outline(shape, (0, 0), 0.035 * wide**2, angle)
        path = reels.inside(rim, corners, size)
        actor = Actor(shape, "red", 0.035 * wide**2, angle, path, np.ones(len(path), bool))
        frames, _ = film(np.random.default_rng(0), wide, high, [actor])
        assert len(frames) == len(rim) and (path[4] == rim[4]).all()


def films(count: int) -> list[reels.Reel]:
    return [reels.draw(np.random.default_rng([6, k])) for k in range(count)]


def test_a_film_shows_what_is_told_of_it():
    """Masks lie on what was painted, of its colour more than any other; ways are what boxes do."""
    right, moved = 0, 0
    for reel in films(25):
        assert list(reel.numbers) == reel.film.shown(FRAMES) and len(reel.scenes) == FRAMES
        for thing, (name, way) in enumerate(zip(reel.names, reel.ways, strict=True)):
            held = [shot for shot in range(FRAMES) if reel.seen[thing][shot]]
            centres = []
            for shot in held:
                x0, y0, x1, y1 = reel.box(thing, shot)
                centres.append(((x0 + x1) / 2, (y0 + y1) / 2))
                (told,) = [t for t in reel.scenes[shot].things if f"{t.colour} {t.shape}" == name]
                shares = colour_shares(reel.scenes[shot].image[told.mask])
                right += max(shares, key=lambda colour: shares[colour]) == told.colour
                moved += 1
            dx, dy = (
                np.subtract(centres[-1], centres[0]) if way and held[-1] - held[0] == FRAMES - 1 else (0, 0)
            )
            if dx or dy:
                sign = reels.WAYS[way]
                assert np.argmax(np.abs((dx, dy))) == np.argmax(np.abs(sign))
                assert dx * sign[0] + dy * sign[1] > 0
    assert right > 0.95 * moved


def test_questions_about_films_are_answered_by_its_truth():
    asked = 0
    for k, reel in enumerate(films(40)):
        rng = np.random.default_rng(k)
        place, frames, way = (f(rng, reel) for f in (skills.place, skills.which_frames, skills.which_way))
        thing = next(n for n, name in enumerate(reel.names) if name in place.question)
        shown = [wire(reel.scenes[s], reel.box(thing, s)) for s in range(FRAMES) if reel.seen[thing][s]]
        assert boxes(place.answer)[0] in shown
        name = frames.question.removeprefix("Which frames show the ").removesuffix("?")
        held = reel.seen[reel.names.index(name)]
        told = [n for n, seen in zip(reel.numbers, held, strict=True) if seen]
        assert [int(n) for n in frames.answer.split()] == told
        if way is not None:
            asked += 1
            assert reel.steady and way.answer in (*reels.WAYS, *(f"The {n}." for n in reel.names))
    assert asked > 8


def test_what_tools_say_decides_the_answers_that_are_read_off_it():
    for k in range(60):
        rng = np.random.default_rng(k)
        way = skills.read_way(rng)
        dx, dy = map(int, way.heard[0].split()[-2:])
        axis = ("left", "right")[dx > 0] if abs(dx) > abs(dy) else ("upwards", "downwards")[dy > 0]
        assert way.answer == axis
        moving = skills.read_moving(rng)
        far = [max(abs(int(v)) for v in heard.split()[-2:]) for heard in moving.heard]
        if moving.answer in "AB":
            assert moving.answer == "AB"[far[1] > far[0]]
        else:
            assert int(moving.answer) == sum(each >= 20 for each in far)
        when = skills.read_when(rng)
        starts = [float(heard.split("-")[0]) for heard in when.heard]
        assert when.answer in ("A", "B") or when.answer == when.heard[0]
        assert when.answer not in ("A", "B") or when.answer == "AB"[starts[1] < starts[0]]


def test_a_crop_is_the_part_of_the_scene_that_it_names():
    for k, scene in enumerate(scenes(20)):
        exchange, crop = skills.enlarge(np.random.default_rng(k), scene)
        colour, shape = exchange.answer.split(" {")[0].split()
        (told,) = boxes(exchange.answer)
        found = [t for t in crop.things if (t.colour, t.shape) == (colour, shape)]
        assert told in [wire(crop, thing.box) for thing in found]
        assert crop.image.shape[:2] == found[0].mask.shape
        row = data.Row([exchange], (scene,), crop=crop)
        assert data.write(row).count("<vision>") == 2 and len(row.shown) == 2


def test_a_run_begins_with_pictures_alone():
    first, later = data.lessons(1, 0, 2, 0.0), data.lessons(1, 0, 2, data.DENSE)
    assert first.parts == () and len(first.pictures.cells) == 2 * data.PICTURES
    assert later.pictures is None and len(later.parts) == 4
    reel = later.parts[2]
    assert len(reel.cells) == FRAMES * len(reel.batch.ids)
