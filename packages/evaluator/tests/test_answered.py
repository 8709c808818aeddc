"""Which engine answered: told once, kept in the journal, and never mixed without a word."""

import io

import pytest
from rich.console import Console

from xmlgrpo_evaluator.answered import EngineUse, engine_caution
from xmlgrpo_evaluator.engine_log import EngineLog
from xmlgrpo_evaluator.journal import Journal
from xmlgrpo_evaluator.replies import CountedReply
from xmlgrpo_evaluator.subject import differences

GRAPH = EngineUse("graph", "a Gemma 3 on the CPU", 64)
GENERATE = EngineUse("generate", "asked for", 16)
REPLY = CountedReply("x", tokens=1, truncated=False)


def answered(label: str, *engines: str, dtype: str = "torch.bfloat16", backend: str = "hf"):
    named = {"answered": list(engines)} if engines else None
    return {
        "label": label,
        "backend": backend,
        "engines": named,
        "model": {"model_dtype": dtype},
    }


FULL = "torch.float32"


@pytest.mark.parametrize(
    ("first", "second", "said"),
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
        pytest.param(answered("a"), answered("b", "generate"), None, id="old-was-generate"),
        pytest.param(
            answered("a"), answered("b", "graph"), "it names no engine", id="old-beside-graph"
        ),
        pytest.param(
            answered("a", "generate", "graph"),
            answered("b", "graph"),
            "a by generate and graph",
            id="one-is-mixed",
        ),
        pytest.param(answered("a", "graph"), answered("b", backend="llama-cpp"), None, id="a-gguf"),
    ],
)
def test_results_of_two_engines_are_put_side_by_side_with_a_caution(first, second, said):
    caution = engine_caution(first, second)
    assert caution is None if said is None else said in caution


@pytest.mark.parametrize(
    ("found", "asked", "differing"),
    [
        pytest.param({"engine": "auto"}, "auto", [], id="the-same"),
        pytest.param({"engine": "generate"}, "auto", [], id="auto-takes-any"),
        pytest.param({}, "auto", [], id="old-is-taken-by-auto"),
        pytest.param({}, "generate", [], id="old-was-generate"),
        pytest.param({}, "graph", ["engine"], id="old-was-not-graph"),
        pytest.param({"engine": "auto"}, "generate", ["engine"], id="auto-may-have-been-another"),
    ],
)
def test_a_result_is_taken_for_the_engine_that_is_asked_for(found, asked, differing):
    assert differences(found, {"engine": asked}) == differing


def log(path, asked="auto") -> tuple[EngineLog, Journal, io.StringIO]:
    out = io.StringIO()
    journal = Journal(path, {"s": 1})
    return EngineLog(asked, journal, Console(file=out, width=140)), journal, out


def test_what_answers_is_told_once_and_recorded(tmp_path):
    found, journal, out = log(tmp_path / "j.jsonl")
    with journal:
        for use in (GRAPH, EngineUse(GRAPH.name, GRAPH.reason, 1), GENERATE):
            found.heard(use)
    assert out.getvalue().splitlines() == [
        "replies by the graph engine, 64 at once: a Gemma 3 on the CPU",
        "replies by lm-eval's own generate, 16 at once: asked for",
    ]
    assert found.record() == {
        "asked": "auto",
        "answered": ["generate", "graph"],
        "why": [GRAPH.reason, GENERATE.reason],
    }
    assert found.at_once == 64


@pytest.mark.parametrize(
    ("kept", "asked", "goes_on"),
    [
        pytest.param(["graph"], "auto", "auto", id="graph"),
        pytest.param(["generate"], "auto", "generate", id="generate"),
        pytest.param([], "auto", "generate", id="a-journal-that-names-none"),
        pytest.param(["generate", "graph"], "auto", "auto", id="both"),
        pytest.param(["generate"], "graph", "graph", id="asked-for"),
    ],
)
def test_an_interrupted_evaluation_goes_on_with_its_engine(tmp_path, kept, asked, goes_on):
    path = tmp_path / "j.jsonl"
    with Journal(path, {"s": 1}) as journal:
        for name in kept:
            journal.note_engine(name)
        journal.add(("k", 0), REPLY)
    found, journal, out = log(path, asked)
    with journal:
        assert found.engine == goes_on
        found.heard(GENERATE if goes_on == "generate" else GRAPH)
    expected = {*(kept or ["generate"]), "generate" if goes_on == "generate" else "graph"}
    assert set(found.record()["answered"]) == expected
    assert ("it wrote the replies that are kept" in out.getvalue()) == (goes_on == "generate")
    with Journal(path, {"s": 1}) as again:
        assert again.engines == expected
        assert again.resumed == 1


def test_an_engine_without_a_reply_is_forgotten(tmp_path):
    path = tmp_path / "j.jsonl"
    with Journal(path, {"s": 1}) as journal:
        journal.note_engine("generate")
    with Journal(path, {"s": 2}) as journal:
        assert journal.engines == set()
