"""The gates as functions of numbers: worked by hand, without llama.cpp or a model."""

import json
from dataclasses import replace

import pytest

from xmlgrpo_exporter.check.check_json import Gate
from xmlgrpo_exporter.check.distance import Distance
from xmlgrpo_exporter.check.gates import (
    answers_gate,
    bos_gate,
    distance_gate,
    greedy_gate,
    stop_gate,
    template_gate,
    tokens_gate,
)
from xmlgrpo_exporter.check.questions import Comparison, Questions
from xmlgrpo_exporter.check.reference import Reference
from xmlgrpo_exporter.quants import Limits
from xmlgrpo_exporter.transformers_model import LoadedModel, SourceModel
from xmlgrpo_gguf.header import GgufHeader

from ..exporting import QUIET

LIMITS = Limits(mean_kl=0.01, top1=0.97, greedy_identical=0.5)
PIECES = ["<unk>", "<bos>", "<eos>", "<end_of_turn>", "one", "two"]
BOS, EOS, TURN_END, ONE, TWO = 1, 2, 3, 4, 5
NAMES = {
    "unknown": {"unk_token": "<unk>"},
    "special": {"bos_token": "<bos>", "eos_token": "<eos>"},
}
NORMAL, CONTROL = 1, 3


@pytest.fixture
def reference(tmp_path):
    """Two prompts of one word, asked as a chat that only puts BOS in front."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {piece: i for i, piece in enumerate(PIECES)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, **NAMES["unknown"])),
        **NAMES["special"],
        chat_template="{{ bos_token }}{{ messages[0]['content'] }}",
    )
    chats = [[{"role": "user", "content": word}] for word in ("one", "two")]
    texts, ids = ["<bos>one", "<bos>two"], [[BOS, ONE], [BOS, TWO]]
    source, model = SourceModel(tmp_path, ""), LoadedModel(None, tokenizer, (EOS, TURN_END))
    asked = Comparison(Questions("by hand", ("one", "two")), QUIET, prompts=1, new_tokens=8)
    return Reference(source, model, asked, chats, texts, ids, [[TWO, EOS]])


def judged(gate: Gate) -> bool:
    """Whether the gate let it through; a sentence stands there exactly when it did not."""
    json.dumps(gate.as_json(), allow_nan=False)
    assert bool(gate.why) is not gate.passed
    return gate.passed


@pytest.mark.parametrize(
    ("distance", "passed"),
    [
        pytest.param(Distance(100, 1.0, 0.5, 97), True, id="on-both-limits"),
        pytest.param(Distance(100, 1.1, 0.5, 100), False, id="too-far"),
        pytest.param(Distance(100, 0.0, 0.0, 96), False, id="another-first-token"),
        pytest.param(Distance(100, 0.0, 0.0, 100, finite=False), False, id="not-a-number"),
        pytest.param(Distance(), False, id="nothing-compared"),
    ],
)
def test_distance(distance, passed):
    assert judged(distance_gate(distance, LIMITS)) is passed


@pytest.mark.parametrize(("same", "passed"), [(4, True), (2, True), (1, False), (0, False)])
def test_greedy(same, passed):
    assert judged(greedy_gate(same, 4, LIMITS)) is passed


@pytest.mark.parametrize(
    ("answer", "silent", "passed"),
    [
        pytest.param("7", False, True, id="words"),
        pytest.param(" \n", False, False, id="nothing"),
        pytest.param("", True, True, id="the-model-says-nothing-either"),
    ],
)
def test_answers(answer, silent, passed):
    result = {
        "answer": answer,
        "load_s": 0.1,
        "peak_gib": 0.5,
        "greedy_tokens_per_s": 9.0,
        "threads": 1,
        "finish_reason": "stop",
    }
    assert judged(answers_gate(result, 1.0, 60.0, silent=silent)) is passed


@pytest.mark.parametrize(
    ("ids", "passed"),
    [
        pytest.param([[BOS, ONE], [BOS, TWO]], True, id="the-same"),
        pytest.param([[BOS, ONE], [BOS, ONE, ONE]], False, id="split-otherwise"),
        pytest.param([[BOS, ONE], [BOS]], False, id="shorter"),
    ],
)
def test_tokens(reference, ids, passed):
    gate = tokens_gate({"ids": ids}, reference)
    assert judged(gate) is passed
    assert gate.found["mismatches"] == (0 if passed else 1)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        pytest.param(["one", "two ▁▂▃"], "leave these questions out", id="all-that-differ"),
        pytest.param(["one ▁", "two"], "convert it again", id="another"),
    ],
)
def test_the_sign_for_a_blank_is_named_where_it_is_the_reason(reference, texts, expected):
    ids = [[BOS, ONE], [BOS, ONE, ONE]]
    assert expected in tokens_gate({"ids": ids}, replace(reference, texts=texts)).why


RIGHT = [[BOS, ONE], [BOS, TWO]]


@pytest.mark.parametrize(
    ("chat", "raw", "passed"),
    [
        pytest.param(RIGHT, RIGHT, True, id="one"),
        pytest.param([[BOS, BOS, ONE], [BOS, TWO]], RIGHT, False, id="two-in-a-chat"),
        pytest.param(RIGHT, [[ONE], [TWO]], False, id="none-in-raw-text"),
        pytest.param(RIGHT, [[BOS, ONE, BOS], [BOS, TWO]], False, id="a-second-further-on"),
        pytest.param(RIGHT[:1], RIGHT, False, id="a-chat-not-rendered"),
    ],
)
def test_one_bos(reference, chat, raw, passed):
    assert judged(bos_gate({"chat_ids": chat, "raw_ids": raw}, reference)) is passed


@pytest.mark.parametrize(
    ("chat", "passed"),
    [
        pytest.param([[BOS, ONE, BOS], [BOS, TWO, BOS]], True, id="as-in-training"),
        pytest.param([[BOS, ONE, BOS], [BOS, TWO]], False, id="one-too-few"),
        pytest.param([[BOS, BOS, ONE, BOS], [BOS, TWO, BOS]], False, id="one-more-at-the-start"),
    ],
)
def test_a_bos_that_opens_every_turn(reference, chat, passed):
    opened = replace(reference, ids=[[BOS, ONE, BOS], [BOS, TWO, BOS]])
    assert judged(bos_gate({"chat_ids": chat, "raw_ids": opened.ids}, opened)) is passed


def test_of_several_templates_the_file_has_the_one_that_is_asked_with(reference):
    text = reference.template
    reference.model.tokenizer.chat_template = {"default": text, "tool_use": "{{ 1 }}"}
    header = GgufHeader(3, {"tokenizer.chat_template": text}, ())
    read = {"chat_texts": reference.texts, "template_error": ""}
    assert judged(template_gate(header, read, reference)) is True


@pytest.mark.parametrize(
    ("template", "rendered", "error", "passed"),
    [
        pytest.param("same", ["<bos>one", "<bos>two"], "", True, id="the-same"),
        pytest.param("other", ["<bos>one", "<bos>two"], "", False, id="another-text"),
        pytest.param("same", ["<bos>one", "two"], "", False, id="rendered-otherwise"),
        pytest.param("same", [], "no such filter", False, id="does-not-work"),
    ],
)
def test_template(reference, template, rendered, error, passed):
    text = reference.template if template == "same" else "{{ 1 }}"
    header = GgufHeader(3, {"tokenizer.chat_template": text}, ())
    read = {"chat_texts": rendered, "template_error": error}
    assert judged(template_gate(header, read, reference)) is passed


@pytest.mark.parametrize(
    ("ends", "piece", "kind", "passed"),
    [
        pytest.param({EOS: True, TURN_END: True}, "<end_of_turn>", CONTROL, True, id="all"),
        pytest.param({EOS: True, TURN_END: False}, "<end_of_turn>", CONTROL, False, id="runs-on"),
        pytest.param({EOS: True, TURN_END: True}, "<fin>", CONTROL, False, id="renamed"),
        pytest.param({EOS: True, TURN_END: True}, "<end_of_turn>", NORMAL, False, id="plain-text"),
    ],
)
def test_stop(reference, ends, piece, kind, passed):
    pieces = [piece if i == TURN_END else text for i, text in enumerate(PIECES)]
    kinds = [kind] * len(PIECES)
    metadata = {"tokenizer.ggml.tokens": pieces, "tokenizer.ggml.token_type": kinds}
    read = {
        "ends_generation": {str(token): does for token, does in ends.items()},
        "eos_id": EOS,
        "eot_id": TURN_END,
    }
    assert judged(stop_gate(GgufHeader(3, metadata, ()), read, reference)) is passed


def test_token_types_that_are_no_list_do_not_end_the_check(reference):
    metadata = {"tokenizer.ggml.tokens": PIECES, "tokenizer.ggml.token_type": 3}
    read = {"ends_generation": {"2": True, "3": True}, "eos_id": EOS, "eot_id": TURN_END}
    assert not judged(stop_gate(GgufHeader(3, metadata, ()), read, reference))
