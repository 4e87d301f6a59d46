"""The held-out questions: one of each scene, of the forms it supports alike often."""

from collections import Counter

from assets.benchmarks import _drawn
from assets.stage import Project
from pixelis_pipeline.ledger import artifact
from pixelis_pipeline.records import Media, Origin, Question


def asked(scene: int) -> list[Question]:
    """Eight questions of one form about a scene and one of another, as a picture's are."""
    media = (Media(f"{scene:064x}", "image", f"{scene}.png", 32, 32),)
    origin = Origin("sa1b", str(scene), "CC0", "evaluation")
    forms = ["compare"] * 8 + ["count"]
    return [
        Question(f"{scene}-{k}", (f"scene-{scene}",), origin, media, "?", "A", form)
        for k, form in enumerate(forms)
    ]


def test_a_form_is_drawn_as_often_as_another_and_all_its_questions_alike():
    drawn = [_drawn(asked(scene), 5) for scene in range(900)]
    forms = Counter(question.task for question in drawn)
    assert abs(forms["count"] - 450) < 60, "four deviations"
    of = Counter(question.id.split("-")[1] for question in drawn if question.task == "compare")
    assert len(of) == 8 and min(of.values()) > 30
    assert drawn == [_drawn(asked(scene), 5) for scene in range(900)]
    assert drawn != [_drawn(asked(scene), 6) for scene in range(900)]


def test_no_two_questions_are_about_one_scene(splits: Project):
    questions = list(artifact.records(splits.ledger.folder("benchmarks/capabilities"), Question))
    assert len({question.parents for question in questions}) == len(questions)
    assert {question.origin.role for question in questions} == {"evaluation"}
