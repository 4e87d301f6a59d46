"""Who wrote a text decides whether a mark in it is a mark."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from pixelis_pipeline.agent import render, tokenizer, vocabulary
from pixelis_pipeline.agent.render import Span, Turn
from tests.agent import tiny_large

VOCABULARIES = {
    "nano": (vocabulary.nano(), tokenizer.SPECIAL),
    "qwen": (vocabulary.both(tiny_large.tokenizer()), tiny_large.SPECIAL),
}
CONTRACTS = [render.nano(), render.nano(sees=False), render.nano(edition=1), render.qwen("", {})]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_no_text_spells_a_mark_unless_it_may(name):
    words, special = VOCABULARIES[name]
    ids = {words.id(mark) for mark in special} - {words.marks.token_to_id(tokenizer.UNKNOWN)}
    parts = st.lists(
        st.sampled_from((*special, "<", "obs", ">", "|", " a", "9", "\n")), min_size=1, max_size=6
    )

    @given(parts)
    @settings(max_examples=200, deadline=None, database=None)
    def held(drawn):
        text = "".join(drawn)
        assert not ids & set(words.encode([Span(text, False)]))
        assert any(mark in text for mark in special) == bool(
            {words.id(mark) for mark in special} & set(words.encode([Span(text, True)]))
        )

    held()


def test_marks_that_a_tokenizer_does_not_call_special_are_marks_all_the_same():
    """As Qwen3's <think> and <tool_response>."""
    made = tiny_large.tokenizer()
    made.add_tokens([AddedToken("<mark>", special=False, normalized=False)])
    words = vocabulary.both(made)
    assert words.encode([Span("<mark>", True)]) == [words.id("<mark>")]
    assert words.id("<mark>") not in words.encode([Span("<mark>", False)])
    with pytest.raises(KeyError, match="no token <other>"):
        words.id("<other>")


@pytest.mark.parametrize("contract", CONTRACTS)
def test_the_template_says_what_is_foreign(contract):
    turns = [Turn("<think>a</think>", "heard", (40, 60)), Turn("b", "\x000\x00")]
    made = render.spans(contract, "asked", turns, "<answer>A</answer>", (40, 60))
    assert "".join(span.text for span in made) == render.render(
        contract, "asked", turns, "<answer>A</answer>", (40, 60)
    )
    assert [span.text for span in made if not span.marks] == ["asked", "heard", "\x000\x00"]


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_conversation_grows_by_its_replies(contract):
    turns = [Turn("<think>a</think>", "heard", (40, 60)), Turn("b", "c")]
    grown = render.spans(contract, "asked", (), picture=(40, 60))
    for turn in turns:
        grown += [Span(turn.said, True), *render.reply(contract, turn.heard, turn.picture)]
    words = vocabulary.nano()
    assert words.encode(grown) == words.encode(render.spans(contract, "asked", turns, "", (40, 60)))
