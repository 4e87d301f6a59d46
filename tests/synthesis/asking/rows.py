"""Assignments without pictures, each a request of its own."""

from pixelis_pipeline.records import Assignment, Media, Origin, Question, record_id

ORIGIN = Origin("sa1b", "row", "CC0-1.0", "training")


def row(number: int, media: tuple[Media, ...] = ()) -> Assignment:
    """The `number`-th: what is in the picture?"""
    question = Question(f"q{number}", (), ORIGIN, media, f"What is at {number}?", "A", task="test")
    return Assignment(record_id("test", 1, {}, [], number), (f"s{number}",), question)


def rows(count: int) -> list[Assignment]:
    return [row(number) for number in range(count)]
