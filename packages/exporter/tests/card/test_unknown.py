"""What nobody recorded is not invented, and what somebody wrote cannot pass for a result."""

import json
import re

import pytest

from tracing import linked_numbers

from .. import run_folders
from ..cards import card_of, metadata, with_its_card, write_evaluation
from ..run_folders import write_json


@pytest.fixture
def run(tmp_path):
    run = run_folders.write_full_run(tmp_path / "gsm8k-1b")
    write_evaluation(run)
    return run


def test_an_adapter_trained_elsewhere(tmp_path):
    """A folder with an adapter and nothing else: no result, no settings, and it says so."""
    run_folders.write_adapter(tmp_path / "mine", base="someone/a-base-1b")
    release = with_its_card(tmp_path / "mine")
    card = release.card
    assert [file.target for file in release.files] == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "README.md",
    ]
    assert "It was trained elsewhere" in card
    assert "No result was recorded." in card
    assert "Not recorded: there is no manifest" in card
    assert all(not pointer for _, _, pointer in linked_numbers(card))
    data = metadata(card)
    assert data["base_model"] == "someone/a-base-1b"
    assert (data["license"], data["library_name"]) == ("unknown", "peft")
    assert "model-index" not in data
    assert 'PeftModel.from_pretrained(base, "alice/gsm8k-1b", revision="main")' in card


def test_gguf_files_alone(tmp_path):
    run_folders.write_gguf(tmp_path / "files", "m-q8_0.gguf", "m-Q4_K_M.gguf")
    release = with_its_card(tmp_path / "files")
    card = release.card
    assert "A model whose base nobody recorded" in card
    assert "**not checked**" in card
    assert "ollama run hf.co/alice/gsm8k-1b:Q8_0\n" in card
    assert "ollama run hf.co/alice/gsm8k-1b:Q4_K_M\n" in card
    assert metadata(card)["library_name"] == "gguf"
    # its architecture is Gemma's and its base is not named: the stricter reading
    assert metadata(card)["license"] == "gemma"
    assert "Notice" in [file.target for file in release.files]


def test_gguf_files_alone_with_their_base_named(tmp_path):
    run_folders.write_gguf(tmp_path / "files", "m-q8_0.gguf")
    cards = {"google/gemma-9-1b": {"license": "apache-2.0"}}
    release = with_its_card(tmp_path / "files", base_id="google/gemma-9-1b", look_up=cards.get)
    card = release.card
    data = metadata(card)
    assert (data["base_model"], data["license"]) == ("google/gemma-9-1b", "apache-2.0")
    assert "Notice" not in [file.target for file in release.files]


def test_a_manifest_without_some_numbers(run):
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["holdout"]["before"]["worked"]
    manifest |= {"commit": None, "hardware": {"device": None, "cores": 2}}
    write_json(run / "manifest.json", manifest)
    card = card_of(run)
    assert "| shows its working | *not recorded* | [99.5%" in card
    assert "| code's commit | *not recorded* |" in card
    assert "| device | *not recorded* |" in card


def test_of_a_task_without_sums_no_working_is_told(run):
    manifest = json.loads((run / "manifest.json").read_text())
    write_json(run / "manifest.json", manifest | {"task": "somebody-elses"})
    card = card_of(run)
    assert "| right, in any format |" in card
    assert "shows its working" not in card


def test_the_tiny_base_goes_along_under_our_licence(tmp_path):
    run = run_folders.write_full_run(tmp_path / "tiny")
    base = tmp_path / "home" / "ann" / "base-7f"
    run_folders.write_merged(base)
    run_folders.write_adapter(run / "adapter", base=str(base))
    manifest = run_folders.MANIFEST | {
        "base": run_folders.BASE
        | {"name": str(base), "place": {"path": str(base), "from_run": "../elsewhere"}}
        | {"revision": None, "tiny": True},
        "data": run_folders.MANIFEST["data"] | {"source": "generated", "name": "generated"},
    }
    write_json(run / "manifest.json", manifest)
    release = with_its_card(run)
    card = release.card
    targets = [file.target for file in release.files]
    assert "base/model.safetensors" in targets
    assert "Notice" not in targets
    assert metadata(card)["license"] == "mit"
    assert "none of Gemma's weights" in card
    assert 'subfolder="base"' in card
    published = b"".join(file.read() for file in release.files)
    assert str(tmp_path).encode() not in published
    assert b'"base_model_name_or_path": "base-7f"' in published


def test_an_adapter_on_a_local_base_of_somebody_says_that_it_needs_it(tmp_path):
    run_folders.write_adapter(tmp_path / "mine", base="/models/finetuned")
    release = with_its_card(tmp_path / "mine")
    card = release.card
    assert "The base model is not on the Hub under a name that is known here" in card
    assert "/models" not in card


@pytest.mark.parametrize(
    "name",
    ["a`b | c", "x\n# Best model: 99%", "<img src=x onerror=alert(1)>", "[100%](http://x)"],
)
def test_words_of_a_manifest_cannot_leave_their_code_span(run, name):
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["hardware"]["device"] = name
    write_json(run / "manifest.json", manifest)
    line = next(line for line in card_of(run).splitlines() if line.startswith("| device |"))
    assert re.fullmatch(r"\| device \| `[^`|]*` \|", line)
