from dataclasses import replace

import numpy as np
import pytest

from pixelis_pipeline.agent import tokenizer
from tests.training.conftest import trace
from training.sft.examples import example, text_of


def parts(made) -> dict[float, str]:
    """The text that each weight falls on."""
    decode = tokenizer.shared().decode
    return {
        float(weight): decode(
            [t for t, w in zip(made.ids, made.weights, strict=True) if w == weight], skip_special_tokens=False
        )
        for weight in sorted(set(made.weights.tolist()))
    }


def test_calls_weigh_the_action_weight_thoughts_and_answer_one_and_the_rest_nothing():
    weighed = parts(example(trace(1), 2.0))
    assert weighed[2.0] == '<call>PROP {"box":[11,21,301,401]}</call>'
    assert weighed[1.0] == "<think>Measure its colour.</think><answer>green</answer>"
    assert weighed[0.0].endswith("</user><obs>colour green shape star size small count 1</obs>")


def test_the_policy_reads_what_replay_got_and_not_what_was_claimed():
    assert "claimed" not in text_of(trace(1))
    unreplayed = trace(1)
    unreplayed = replace(unreplayed, steps=(replace(unreplayed.steps[0], replayed={}),))
    with pytest.raises(ValueError, match="has not been replayed"):
        text_of(unreplayed)


def test_a_flawed_step_weighs_nothing_and_what_follows_it_does():
    whole = trace(1)
    flawed = replace(whole, steps=(replace(whole.steps[0], flawed=True), whole.steps[0]))
    weighed = parts(example(flawed, 2.0))
    assert weighed[2.0].count("<call>") == 1 and weighed[1.0].count("<think>") == 1
    assert weighed[1.0].endswith("<answer>green</answer>")
    ids = np.asarray(example(flawed, 2.0).ids)
    ends = np.flatnonzero(ids == tokenizer.shared().token_to_id("</obs>"))
    assert not example(flawed, 2.0).weights[: ends[0]].any()


def test_a_wrong_answer_is_not_imitated():
    assert "<answer>" not in parts(example(trace(1, kind="outcome-negative"), 2.0))[1.0]


def trap(flawed: int, answer: str):
    """Three calls, of which one claims what it did not return, and an answer."""
    whole = trace(1)
    steps = [replace(whole.steps[0], thought=f"Step {n}.", flawed=n == flawed) for n in range(3)]
    return replace(whole, steps=tuple(steps), answer=answer, kind="process-negative")


def test_a_trap_that_ends_wrong_teaches_what_came_before_its_flaw():
    said = parts(example(trap(1, "red"), 2.0))
    assert said[1.0] == "<think>Step 0.</think>" and said[2.0].count("<call>") == 1


def test_a_trap_that_ends_right_teaches_all_but_its_flaw():
    said = parts(example(trap(1, "green"), 2.0))
    assert said[1.0] == "<think>Step 0.</think><think>Step 2.</think><answer>green</answer>"
    assert said[2.0].count("<call>") == 2


def test_a_self_correction_teaches_the_repair():
    said = parts(example(replace(trap(0, "green"), kind="self-correction"), 2.0))
    assert said[1.0] == "<think>Step 1.</think><think>Step 2.</think><answer>green</answer>"


def test_a_trace_without_anything_to_learn_is_no_example():
    assert example(trap(0, "red"), 2.0) is None
    assert example(replace(trap(0, "red"), kind="outcome-negative", steps=()), 2.0) is None
    assert example(trap(0, "green"), 2.0) is not None


def test_a_vocabulary_that_spells_the_marks_is_weighed_alike():
    """Every letter a token: parts are found where they stand in the text, not by tokens of their own."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = {letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    spelling = Tokenizer(models.BPE(vocab=letters, merges=[]))
    spelling.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    whole = trace(1)
    twice = replace(whole, steps=(replace(whole.steps[0], thought="Grün \ufdd0?"), whole.steps[0]))
    made = example(twice, 2.0, tokenizer=spelling)
    known = {n: letter for letter, n in letters.items()}
    text = "".join(known[token] for token in made.ids)

    def weighing(weight: float) -> str:
        return "".join(known[t] for t, w in zip(made.ids, made.weights, strict=True) if w == weight)

    call = '<call>PROP\u0120{"box":[11,21,301,401]}</call>'
    assert weighing(2.0) == 2 * call
    assert weighing(1.0).endswith("<think>Measure\u0120its\u0120colour.</think><answer>green</answer>")
    for turn in made.turns:
        assert text[turn.call] == call.removeprefix("<call>").removesuffix("</call>")
        assert text[turn.last - 6 : turn.last + 1] == "</call>"
        assert text[turn.heard].replace("\u0120", " ") == "colour green shape star size small count 1"
