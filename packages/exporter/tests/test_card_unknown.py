"""What nobody recorded is not invented, and what somebody wrote cannot pass for a result."""

import json
import re

import pytest

from xmlgrpo_run.digests import model_digest

from . import run_folders
from .cards import metadata, prepared, write_evaluation
from .run_folders import write_json
from .tracing import linked_numbers


@pytest.fixture
def run(tmp_path):
    run = run_folders.write_full_run(tmp_path / "gsm8k-1b")
    write_evaluation(run)
    return run


def test_an_adapter_trained_elsewhere(tmp_path):
    """A folder with an adapter and nothing else: no result, no settings, and it says so."""
    run_folders.write_adapter(tmp_path / "mine", base="meta-llama/Llama-3.2-1B-Instruct")
    result = prepared(tmp_path / "mine")
    assert [file.target for file in result.plan.files] == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "README.md",
    ]
    assert "It was trained elsewhere" in result.card
    assert "No result was recorded." in result.card
    assert "Not recorded: there is no manifest" in result.card
    assert all(not pointer for _, _, pointer in linked_numbers(result.card))
    data = metadata(result.card)
    assert data["base_model"] == "meta-llama/Llama-3.2-1B-Instruct"
    assert (data["license"], data["library_name"]) == ("unknown", "peft")
    assert "model-index" not in data
    assert 'PeftModel.from_pretrained(base, "alice/gsm8k-1b", revision="main")' in result.card


def test_gguf_files_alone(tmp_path):
    run_folders.write_gguf(tmp_path / "files", "m-q8_0.gguf", "m-Q4_K_M.gguf")
    result = prepared(tmp_path / "files")
    assert "A model whose base nobody recorded" in result.card
    assert "**not checked**" in result.card
    assert "ollama run hf.co/alice/gsm8k-1b:Q8_0\n" in result.card
    assert "ollama run hf.co/alice/gsm8k-1b:Q4_K_M\n" in result.card
    assert metadata(result.card)["library_name"] == "gguf"
    # its architecture is Gemma's and its base is not named: the stricter reading
    assert metadata(result.card)["license"] == "gemma"
    assert "Notice" in [file.target for file in result.plan.files]


def test_gguf_files_alone_with_their_base_named(tmp_path):
    run_folders.write_gguf(tmp_path / "files", "m-q8_0.gguf")
    cards = {"google/gemma-9-1b": {"license": "apache-2.0"}}
    result = prepared(tmp_path / "files", base_id="google/gemma-9-1b", look_up=cards.get)
    data = metadata(result.card)
    assert (data["base_model"], data["license"]) == ("google/gemma-9-1b", "apache-2.0")
    assert "Notice" not in [file.target for file in result.plan.files]


def test_a_manifest_without_some_numbers(run):
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["holdout"]["before"]["worked"]
    manifest["commit"] = None
    write_json(run / "manifest.json", manifest)
    card = prepared(run).card
    assert "| shows its working | *not recorded* | [99.5%" in card
    assert "| code's commit | *not recorded* |" in card


def test_of_a_task_without_sums_no_working_is_told(run):
    manifest = json.loads((run / "manifest.json").read_text())
    write_json(run / "manifest.json", manifest | {"task": "somebody-elses"})
    card = prepared(run).card
    assert "| right, in any format |" in card
    assert "shows its working" not in card


def test_the_tiny_base_goes_along_under_our_licence(tmp_path):
    run = run_folders.write_full_run(tmp_path / "tiny")
    base = tmp_path / "home" / "ann" / "base-7f"
    run_folders.write_merged(base)
    run_folders.write_adapter(run / "adapter", base=str(base))
    manifest = run_folders.MANIFEST | {
        "base": run_folders.BASE
        | {
            "name": str(base),
            "revision": None,
            "place": {"path": str(base), "from_run": "../home/ann/base-7f"},
            "tiny": True,
        },
        "adapter": model_digest(run / "adapter"),
        "data": run_folders.MANIFEST["data"] | {"source": "generated", "name": "generated"},
    }
    write_json(run / "manifest.json", manifest)
    result = prepared(run)
    targets = [file.target for file in result.plan.files]
    assert "base/model.safetensors" in targets
    assert "Notice" not in targets
    assert metadata(result.card)["license"] == "mit"
    assert "none of Gemma's weights" in result.card
    assert 'subfolder="base"' in result.card
    published = b"".join(file.read() for file in result.plan.files)
    assert str(tmp_path).encode() not in published
    assert b'"base_model_name_or_path": "base-7f"' in published


def test_an_adapter_on_a_local_base_of_somebody_says_that_it_needs_it(tmp_path):
    run_folders.write_adapter(tmp_path / "mine", base="/models/finetuned")
    result = prepared(tmp_path / "mine")
    assert "The base model is not on the Hub under a name that is known here" in result.card
    assert "/models" not in result.card


@pytest.mark.parametrize(
    "name",
    ["a`b | c", "x\n# Best model: 99%", "<img src=x onerror=alert(1)>", "[100%](http://x)"],
)
def test_words_of_a_manifest_cannot_leave_their_code_span(run, name):
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["hardware"]["device"] = name
    write_json(run / "manifest.json", manifest)
    line = next(line for line in prepared(run).card.splitlines() if line.startswith("| device |"))
    assert re.fullmatch(r"\| device \| `[^`|]*` \|", line)
