"""What of a model folder the converter is shown."""

import json

import pytest

from xmlgrpo_exporter.convert.staging import (
    check_model_folder,
    complete_settings,
    is_gemma_form,
    stage,
)
from xmlgrpo_rewards.errors import UserError


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        pytest.param(
            {"type": "BPE", "byte_fallback": True, "merges": [["a", "b"]]}, True, id="gemma"
        ),
        pytest.param(
            {"type": "BPE", "byte_fallback": False, "merges": [["a", "b"]]}, False, id="gpt2"
        ),
        pytest.param({"type": "Unigram", "byte_fallback": True}, False, id="unigram"),
    ],
)
def test_is_gemma_form(model, expected):
    assert is_gemma_form({"model": model}) is expected


def test_complete_settings_adds_and_keeps():
    tokenizer = {
        "added_tokens": [
            {"id": 2, "content": "<bos>", "special": True},
            {"id": 6, "content": "<end_of_turn>", "special": True},
        ]
    }
    stored = {"added_tokens_decoder": {"2": {"content": "<s>"}}, "add_bos_token": True}
    completed = complete_settings(stored, tokenizer)
    assert completed["added_tokens_decoder"] == {
        "2": {"content": "<s>"},
        "6": {"content": "<end_of_turn>", "special": True},
    }
    assert completed["add_bos_token"] is True


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, r"config\.json", id="empty"),
        pytest.param({"config.json": "{}"}, r"no \.safetensors", id="no-weights"),
        pytest.param(
            {"config.json": "{}", "model.safetensors": ""}, "tokenizer.json", id="no-tokenizer"
        ),
        pytest.param(
            {"config.json": '{"quantization_config": {"load_in_4bit": true}}'},
            "quantized weights",
            id="4-bit",
        ),
    ],
)
def test_folders_that_cannot_be_converted(tmp_path, files, expected):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=expected):
        check_model_folder(tmp_path)


def test_settings_that_json_of_ours_may_not_hold_are_kept(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "tokenizer.json").write_text('{"model": {"type": "BPE"}}')
    (model / "tokenizer_config.json").write_text('{"model_max_length": Infinity}')
    staged = stage(model, tmp_path / "staged", prompts_have_bos=True)
    settings = json.loads((staged / "tokenizer_config.json").read_text())
    assert settings["model_max_length"] == float("inf")
    assert settings["add_bos_token"] is True
