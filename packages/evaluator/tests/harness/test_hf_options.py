"""Generation options as transformers completes them, on a real tokenizer of a few characters."""

import re

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import Gemma3TextConfig, GenerationConfig, PreTrainedTokenizerFast

from xmlgrpo_evaluator.harness.hf_options import (
    NotServedError,
    check_options,
    read_options,
)
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.engine import Sampling

EOS, TURN_END = 1, 4
PIECES = ["<pad>", "<eos>", "<bos>", "<unk>", "<end_of_turn>", "a", "b", "\n", "x1"]
GREEDY = {"until": ["<end_of_turn>"], "do_sample": False, "max_gen_toks": 9}


@pytest.fixture(scope="module")
def tokenizer():
    inner = Tokenizer(
        models.WordLevel({p: i for i, p in enumerate(PIECES)}, unk_token="<unk>")  # noqa: S106 - no password
    )
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("x1|."), "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",  # noqa: S106
        eos_token="<eos>",  # noqa: S106
        bos_token="<bos>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
        additional_special_tokens=["<end_of_turn>"],
        clean_up_tokenization_spaces=False,
    )


def config(**fields) -> GenerationConfig:
    return GenerationConfig(eos_token_id=[EOS, TURN_END], pad_token_id=0, **fields)


GEMMA = {"do_sample": True, "top_k": 64, "top_p": 0.95, "cache_implementation": "hybrid"}


@pytest.mark.parametrize(
    ("options", "model", "expected"),
    [
        pytest.param(GREEDY, GEMMA, Sampling(9, 0.0), id="greedy-whatever-the-model-says"),
        pytest.param({}, {}, Sampling(256, 0.0), id="nothing-asked"),
        pytest.param({"max_new_tokens": 7}, {}, Sampling(7, 0.0), id="another-name-of-the-limit"),
        pytest.param(
            {"temperature": 0.7, "max_gen_toks": 5},
            {},
            Sampling(5, 0.7, top_k=50),
            id="transformers-own-top-k",
        ),
        pytest.param(
            {"do_sample": True, "temperature": 1.0},
            GEMMA,
            Sampling(256, 1.0, top_p=0.95, top_k=64),
            id="the-models-own-filters",
        ),
        pytest.param(
            {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 0.5, "min_p": 0.1},
            GEMMA,
            Sampling(256, 1.0, top_p=0.5, top_k=0, min_p=0.1),
            id="the-options-win",
        ),
    ],
)
def test_how_tokens_are_chosen(tokenizer, options, model, expected):
    read = read_options(options, config(**model), tokenizer, 256)
    assert read.sampling == expected


def test_a_generation_config_that_transformers_made_is_served(tokenizer, tmp_path):
    """A model that is saved without a generation config of its own gets such a file."""
    GenerationConfig.from_model_config(Gemma3TextConfig()).save_pretrained(tmp_path)
    made = GenerationConfig.from_pretrained(tmp_path)
    assert made.output_attentions is False  # not None, transformers' default
    assert read_options(GREEDY, made, tokenizer, 256).sampling == Sampling(9, 0.0)


@pytest.mark.parametrize(
    ("options", "model", "reason"),
    [
        pytest.param({"num_beams": 4}, {}, "num_beams=4", id="beams"),
        pytest.param({}, {"repetition_penalty": 1.1}, "repetition_penalty=1.1", id="of-the-model"),
        pytest.param({"frobnicate": 1}, {}, "frobnicate=1", id="unknown"),
        pytest.param({"max_length": 50}, {}, "max_length=50", id="a-limit-with-the-prompt"),
        pytest.param({}, {"max_new_tokens": 5}, "max_new_tokens=5", id="the-models-own-limit"),
        pytest.param({"do_sample": True}, {}, "at temperature 0", id="sampling-at-0"),
        pytest.param({"temperature": 1.0, "top_p": 0.0}, {}, "top_p: expected", id="no-mass"),
        pytest.param(
            {"until": ["<end_of_turn>\n"]}, {}, "joins a special token", id="half-special-stop"
        ),
    ],
)
def test_what_is_left_to_lm_eval(tokenizer, options, model, reason):
    with pytest.raises(NotServedError, match=re.escape(reason)):
        read_options(options, config(**model), tokenizer, 256)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param({}, None, id="nothing-asked"),
        pytest.param({"until": ["x"], "max_new_tokens": 9}, None, id="stop-and-limit"),
        pytest.param({"do_sample": True, "temperature": 0.7, "top_k": 5}, None, id="sampling"),
        pytest.param({"num_beams": 1}, None, id="transformers-own-value"),
        pytest.param({"num_beams": 2}, "does not know num_beams=2;", id="beams"),
        pytest.param({"do_sample": True}, "at temperature 0", id="sampling-at-0"),
        pytest.param({"temperature": 1.0, "top_p": 0.0}, "top_p: expected", id="no-mass"),
    ],
)
def test_what_graph_cannot_serve_with_any_model_is_refused_without_one(options, reason):
    if reason is None:
        check_options(options)
        return
    with pytest.raises(UserError, match=f"--engine graph cannot answer: .*{reason}"):
        check_options(options)


@pytest.mark.parametrize(
    ("until", "stop_ids"),
    [
        pytest.param([], (EOS, TURN_END), id="the-models-own"),
        pytest.param(["<end_of_turn>"], (EOS, TURN_END), id="one-of-them"),
        pytest.param("\n", (EOS, TURN_END, 7), id="one-token"),
        pytest.param(["ab"], (EOS, TURN_END), id="two-tokens-are-cut-off-afterwards"),
        pytest.param(["?"], (EOS, TURN_END), id="not-in-the-vocabulary"),
        pytest.param([""], (EOS, TURN_END), id="empty"),
    ],
)
def test_which_tokens_end_a_reply(tokenizer, until, stop_ids):
    read = read_options({"until": until}, config(), tokenizer, 256)
    assert read.stop_ids == stop_ids


A, B, NEWLINE, X1 = 5, 6, 7, 8


@pytest.mark.parametrize(
    ("until", "tokens", "expected"),
    [
        pytest.param([], [A, B, EOS], ("ab", 3, False), id="ended"),
        pytest.param([], [A, B], ("ab", 2, True), id="cut-off"),
        pytest.param([], [], ("", 0, True), id="nothing"),
        pytest.param(["\n"], [A, NEWLINE], ("a", 2, False), id="stopped-at-a-token"),
        pytest.param(["ab"], [B, A, B, A, A, EOS], ("b", 3, False), id="stopped-in-the-midst"),
        pytest.param(["ab"], [B, A, B], ("b", 3, False), id="stopped-at-the-limit"),
        pytest.param(["bb", "ab"], [A, A, B, B], ("a", 3, False), id="the-earlier-of-two"),
        pytest.param(["1"], [A, X1, B], ("ax", 2, False), id="the-end-of-a-token"),
        pytest.param(["a"], [A, B, EOS], ("", 1, False), id="at-once"),
    ],
)
def test_a_reply_is_cut_as_lm_eval_cuts_it(tokenizer, until, tokens, expected):
    read = read_options({"until": until}, config(), tokenizer, 256)
    reply = read.reply(tokens, tokenizer)
    assert (reply, reply.tokens, reply.truncated) == expected
