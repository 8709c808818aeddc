"""Which engine answered: told once, kept in the journal, and never mixed without a word."""

import io

import pytest
from rich.console import Console

from xmlgrpo_evaluator.harness.engine_log import EngineLog
from xmlgrpo_evaluator.harness.journal import Journal
from xmlgrpo_evaluator.harness.replies import CountedReply
from xmlgrpo_evaluator.results.identity import read_result_of
from xmlgrpo_evaluator.setup.engines import EngineUse, engine_caution
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import write_json

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
    ("found", "engines", "asked", "differing"),
    [
        pytest.param({"engine": "auto"}, ["graph"], "auto", [], id="the-same"),
        pytest.param({"engine": "generate"}, ["generate"], "auto", [], id="auto-takes-any"),
        pytest.param({"engine": "auto"}, ["graph"], "graph", [], id="auto-was-graph"),
        pytest.param({"engine": "auto"}, ["generate"], "generate", [], id="auto-was-generate"),
        pytest.param({"engine": "auto"}, ["generate"], "graph", ["engine"], id="auto-was-another"),
        pytest.param(
            {"engine": "auto"}, ["generate", "graph"], "graph", ["engine"], id="auto-was-both"
        ),
        pytest.param({"engine": "graph"}, ["graph"], "generate", ["engine"], id="asked-another"),
        pytest.param({"engine": "auto"}, [], "graph", [], id="nothing-was-written"),
        pytest.param({}, None, "auto", [], id="old-is-taken-by-auto"),
        pytest.param({}, None, "generate", [], id="old-was-generate"),
        pytest.param({}, None, "graph", ["engine"], id="old-was-not-graph"),
    ],
)
def test_a_result_is_taken_for_the_engine_that_answered_it(
    tmp_path, found, engines, asked, differing
):
    place = tmp_path / "result.json"
    named = None if engines is None else {"answered": engines}
    result = {"format": 1, "label": "a", "backend": "hf", "tasks": {}, "engines": named}
    write_json(place, result | {"subject": found})
    if not differing:
        assert read_result_of(place, {"engine": asked})["subject"] == found
        return
    with pytest.raises(UserError, match="another engine"):
        read_result_of(place, {"engine": asked})


@pytest.mark.parametrize(
    ("kept", "asked", "goes_on"),
    [
        pytest.param("graph", "graph", True, id="the-one-that-answered"),
        pytest.param("generate", "graph", False, id="another"),
    ],
)
def test_what_auto_began_is_continued_by_the_engine_that_answered(tmp_path, kept, asked, goes_on):
    place = tmp_path / "j.jsonl"
    with Journal(place, {"engine": "auto"}) as journal:
        journal.note_engine(kept)
        journal.add(("k", 0), REPLY)
    if goes_on:
        with Journal(place, {"engine": asked}) as journal:
            assert journal.resumed == 1
        return
    with pytest.raises(UserError, match="another engine"):
        Journal(place, {"engine": asked})


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
