"""Which engine answered: kept in the journal, and never mixed without a word."""

from dataclasses import replace

import pytest

from xmlgrpo_evaluator.identity import differences
from xmlgrpo_evaluator.journal import CountedReply, EngineUse, open_journal
from xmlgrpo_evaluator.results.compare import engine_caution
from xmlgrpo_rewards.errors import UserError

GRAPH = EngineUse("graph", "it reads this model, on the CPU", 64)
GENERATE = EngineUse("generate", "asked for", 16)
REPLY = CountedReply("x", tokens=1, truncated=False)
FULL, HALF = "torch.float32", "torch.bfloat16"


def answered(label: str, *engines: str, dtype: str = HALF):
    named = {"answered": list(engines)} if engines else None
    return {"label": label, "engines": named, "model": {"model_dtype": dtype}}


@pytest.mark.parametrize(
    ("first", "second", "caution"),
    [
        pytest.param(answered("a", "graph"), answered("b", "graph"), None, id="the-same"),
        pytest.param(
            answered("a", "graph"), answered("b", "generate"), "a by graph, b by generate", id="two"
        ),
        pytest.param(
            answered("a", "graph", dtype=FULL),
            answered("b", "generate", dtype=FULL),
            None,
            id="float32-is-alike",
        ),
        pytest.param(
            answered("a", "graph"),
            answered("b", "generate", dtype=FULL),
            "round differently in 16 bits",
            id="one-of-them-in-16-bits",
        ),
        pytest.param(
            answered("a", "generate", "graph"),
            answered("b", "graph"),
            "a by generate and graph",
            id="one-is-mixed",
        ),
        pytest.param(answered("a", "graph"), answered("b"), None, id="a-gguf"),
    ],
)
def test_results_of_two_engines_are_put_side_by_side_with_a_caution(first, second, caution):
    shown = engine_caution(first, second)
    assert shown is None if caution is None else caution in (shown or "")


@pytest.mark.parametrize(
    ("there", "engines", "asked", "differing"),
    [
        pytest.param("auto", {"graph"}, "auto", [], id="the-same"),
        pytest.param("generate", {"generate"}, "auto", [], id="auto-takes-any"),
        pytest.param("auto", {"graph"}, "graph", [], id="auto-was-graph"),
        pytest.param("auto", {"generate"}, "generate", [], id="auto-was-generate"),
        pytest.param("auto", {"generate"}, "graph", ["engine"], id="auto-was-another"),
        pytest.param("auto", {"generate", "graph"}, "graph", ["engine"], id="auto-was-both"),
        pytest.param("graph", {"graph"}, "generate", ["engine"], id="asked-another"),
        pytest.param("auto", set(), "graph", [], id="nothing-was-written"),
    ],
)
def test_a_result_is_taken_for_the_engine_that_answered_it(there, engines, asked, differing):
    assert differences({"engine": there}, {"engine": asked}, engines) == differing


def kept(path, uses, identity):
    with open_journal(path, identity) as journal:
        for use in uses:
            journal.note_engine(use)
        journal.add(("k", 0), REPLY)


def test_what_auto_began_is_continued_by_the_engine_that_answered(tmp_path):
    path = tmp_path / "j.jsonl"
    kept(path, [GRAPH], {"engine": "auto"})
    with open_journal(path, {"engine": "graph"}) as journal:
        assert (journal.resumed, journal.uses) == (1, [GRAPH])
    other = open_journal(path, {"engine": "generate"})
    with pytest.raises(UserError, match="another engine"), other:
        pass


def test_each_engine_and_reason_is_new_once(tmp_path):
    with open_journal(tmp_path / "j.jsonl", {}) as journal:
        uses = (GRAPH, replace(GRAPH, at_once=1), GENERATE, GRAPH)
        assert [journal.note_engine(use) for use in uses] == [True, False, True, False]
        assert journal.uses == [GRAPH, GENERATE]


def test_an_engine_without_a_reply_is_forgotten(tmp_path):
    path = tmp_path / "j.jsonl"
    with open_journal(path, {"s": 1}) as journal:
        journal.note_engine(GENERATE)
    with open_journal(path, {"s": 2}) as journal:
        assert journal.engines == set()


def test_what_answers_reads_as_a_sentence():
    assert str(GRAPH) == "replies by the graph engine, 64 at once: it reads this model, on the CPU"
    assert str(GENERATE) == "replies by lm-eval's own generate, 16 at once: asked for"
