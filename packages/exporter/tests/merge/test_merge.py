"""Merging: what must fit before, and that the merged folder answers as the adapter did."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from finished_runs import base_of
from xmlgrpo_exporter.check.check_json import EXIT_GATE_FAILED
from xmlgrpo_exporter.check.distance import Distance
from xmlgrpo_exporter.merge import merge
from xmlgrpo_exporter.merge.inputs import pristine_base, read_adapter
from xmlgrpo_exporter.quants import MERGE_LIMITS, Limits
from xmlgrpo_exporter.transformers_model import stored_weights
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import model_digest
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import read_manifest, write_manifest

from ..exporting import run_cli


@pytest.mark.slow
def test_merged_run_answers_as_its_adapter_and_is_not_merged_twice(tiny_run, tmp_path, capsys):
    home = tmp_path / "x[" / "b]"  # what rich would read as markup
    out = home / "merged"
    assert run_cli("merge", "--run", tiny_run.run, "--out", out, "--prompts", 4) == 0
    record = json.loads((out / "merge.json").read_text())
    assert record["parity"]["passed"]
    assert record["parity"]["found"]["greedy_identical"] == 1
    assert record["stop_ids"] == [1, 6]
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == [1, 6]
    assert (out / "chat_template.jinja").read_text() == (
        tiny_run.run / "adapter" / "chat_template.jinja"
    ).read_text()
    assert (out / "tokenizer.model").read_bytes() == (
        tiny_run.base / "tokenizer.model"
    ).read_bytes()
    assert sorted(path.name for path in home.iterdir()) == [".merged.lock", "merged"]
    published = [path for path in out.iterdir() if path.suffix in {".json", ".jinja"}]
    assert len(published) == 6
    assert [path.name for path in published if str(tiny_run.base) in path.read_text()] == [
        "merge.json"  # names its base; it is a record of the run, not part of the model
    ]

    capsys.readouterr()
    assert run_cli("merge", "--run", tiny_run.run, "--out", out) == 0
    assert "up to date" in capsys.readouterr().out
    with pytest.raises(UserError, match="not overwritten"):
        run_cli("merge", "--run", tiny_run.run, "--out", out, "--dtype", "bfloat16")

    # other weights of the same shape: what was compared with the adapter is no longer there
    shutil.copyfile(tiny_run.base / "model.safetensors", out / "model.safetensors")
    with pytest.raises(UserError, match="has changed since it was compared"):
        run_cli("merge", "--run", tiny_run.run, "--out", out)


@pytest.mark.slow
def test_weights_are_base_plus_scaled_product(tiny_run, tmp_path):
    out = tmp_path / "merged"
    assert run_cli("merge", "--run", tiny_run.run, "--out", out, "--prompts", 1) == 0
    layer = "model.layers.1.mlp.down_proj"
    adapter = load_file(tiny_run.run / "adapter" / "adapter_model.safetensors")
    a = adapter[f"base_model.model.{layer}.lora_A.weight"]
    b = adapter[f"base_model.model.{layer}.lora_B.weight"]
    before = load_file(tiny_run.base / "model.safetensors")[f"{layer}.weight"]
    after = load_file(out / "model.safetensors")[f"{layer}.weight"]
    assert b.abs().max() > 0
    torch.testing.assert_close(after, before + 8 / 4 * (b @ a))


@pytest.mark.slow
def test_bfloat16_is_rounded_once_and_still_passes(tiny_run, tmp_path):
    out = tmp_path / "merged"
    assert run_cli("merge", "--run", tiny_run.run, "--out", out, "--dtype", "bfloat16") == 0
    weights = load_file(out / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    # who names no number type takes the one that is there, as `gguf` does
    assert run_cli("merge", "--run", tiny_run.run, "--out", out) == 0
    found = json.loads((out / "merge.json").read_text())["parity"]["found"]
    assert 0 < found["mean_kl"] < MERGE_LIMITS["bfloat16"].mean_kl


@pytest.mark.slow
def test_multimodal_run_merges_and_loads_again(vision_run, tmp_path):
    out = tmp_path / "merged"
    assert run_cli("merge", "--run", vision_run.run, "--out", out, "--prompts", 2) == 0
    assert json.loads((out / "merge.json").read_text())["class"] == "Gemma3ForConditionalGeneration"
    before = load_file(vision_run.base / "model.safetensors")
    after = load_file(out / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys()
    assert changed == {
        f"language_model.model.layers.{layer}.self_attn.{part}_proj.weight"
        for layer in (0, 1)
        for part in "qv"
    }


@pytest.mark.slow
def test_failed_parity_keeps_the_final_name_free(tiny_run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "merged"
    monkeypatch.setitem(MERGE_LIMITS, "bfloat16", Limits(0.0, 1.0, 1.0))
    words = ("merge", "--run", tiny_run.run, "--out", out, "--dtype", "bfloat16", "--prompts", 2)
    assert run_cli(*words) == EXIT_GATE_FAILED
    assert not out.exists()
    assert (tmp_path / "merged.rejected" / "merge.json").is_file()
    assert "refused" in capsys.readouterr().out


@pytest.mark.slow
def test_adapter_of_another_model_is_refused(tiny_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run.run, run)
    weights = load_file(run / "adapter" / "adapter_model.safetensors")
    moved = {name.replace("layers.1", "layers.7"): weight for name, weight in weights.items()}
    save_file(moved, run / "adapter" / "adapter_model.safetensors")
    folder = RunFolder(run)
    trained = replace(read_manifest(folder), adapter=model_digest(folder.adapter) or "")
    write_manifest(folder, trained)  # training left these weights
    with pytest.raises(UserError, match="does not fit its base"):
        run_cli("merge", "--run", run)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("vision_tower.encoder.layers.0.q_proj", "sees or hears", id="vision-tower"),
        pytest.param("audio_tower.layers.0.q_proj.linear", "sees or hears", id="audio-tower"),
        pytest.param("multi_modal_projector.mm", "sees or hears", id="projector"),
        pytest.param("embed_tokens", "embedding or the output table", id="embedding"),
        pytest.param("lm_head", "embedding or the output table", id="lm-head"),
    ],
)
def test_adapters_that_cannot_be_merged_soundly(tmp_path, name, expected):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    tensor = {f"base_model.model.{name}.lora_A.weight": torch.zeros(1)}
    save_file(tensor, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match=expected):
        read_adapter(tmp_path)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, "adapter_config.json", id="empty-folder"),
        pytest.param({"adapter_config.json": "{"}, "not JSON", id="half-a-config"),
        pytest.param({"adapter_config.json": "[]"}, "JSON object", id="list"),
        pytest.param(
            {"adapter_config.json": '{"peft_type": "LORA"}', "adapter_model.bin": ""},
            "Pickled",
            id="pickle-only",
        ),
        pytest.param(
            {"adapter_config.json": '{"peft_type": "IA3"}', "adapter_model.safetensors": ""},
            "IA3",
            id="not-lora",
        ),
        pytest.param(
            {"adapter_config.json": '{"peft_type": "LORA"}', "adapter_model.safetensors": "x"},
            "expected a safetensors file",
            id="broken-weights",
        ),
    ],
)
def test_broken_adapter_folders(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=expected):
        read_adapter(tmp_path)


def pristine(
    home, config: dict[str, Any], *, trained: str = "base", named=None, dtype: str = "auto"
):
    """The base that a run in bfloat16 is merged into, which has this configuration."""
    run, folder = RunFolder(home / "run"), home / trained
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    base = base_of(run, folder, dtype="bfloat16")
    return pristine_base(run, base, named, dtype)


@pytest.mark.parametrize(
    ("asked", "model_type", "expected"),
    [
        pytest.param("auto", "gemma3_text", "bfloat16", id="auto-is-what-was-trained"),
        pytest.param("float32", "gemma3", "float32", id="asked"),
        pytest.param("float16", "qwen3", "float16", id="float16-elsewhere"),
    ],
)
def test_number_type(tmp_path, asked, model_type, expected):
    assert pristine(tmp_path, {"model_type": model_type}, dtype=asked).dtype == expected


@pytest.mark.parametrize("model_type", ["gemma3", "gemma3_text"])
def test_float16_gemma_is_refused(tmp_path, model_type):
    with pytest.raises(UserError, match="overflows in float16"):
        pristine(tmp_path, {"model_type": model_type}, dtype="float16")


def test_quantized_base_is_refused_and_its_origin_named(tmp_path):
    config = {
        "model_type": "gemma3_text",
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    }
    with pytest.raises(UserError, match=r"--base \S*gemma-3-1b-it\Z"):
        pristine(tmp_path, config, trained="gemma-3-1b-it-unsloth-bnb-4bit")


def test_base_that_has_moved_with_its_run_is_the_same_base(tmp_path):
    before = tmp_path / "before"
    (before / "run").mkdir(parents=True)
    (before / "base").mkdir()
    (before / "base" / "config.json").write_text("{}")
    trained = base_of(RunFolder(before / "run"), before / "base")
    before.rename(tmp_path / "after")
    base = pristine_base(RunFolder(tmp_path / "after" / "run"), trained, None, "auto")
    assert base.name == str(before / "base")  # as merge.json has it, so nothing is merged twice
    assert Path(base.source).samefile(tmp_path / "after" / "base")


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        pytest.param(None, r"is not at .*gone any more; .* --base", id="as-trained"),
        pytest.param("neither/one/nor-the-other", "no model folder at", id="no-hub-id"),
    ],
)
def test_base_that_is_not_there_is_named(tmp_path, named, expected):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(UserError, match=expected):
        pristine_base(run, base_of(run, tmp_path / "gone"), named, "auto")


@pytest.mark.parametrize(
    ("distance", "same", "passed"),
    [
        pytest.param(Distance(100, 1e-5, 1e-6, 100), 4, True, id="rounding"),
        pytest.param(Distance(100, 1e-2, 1e-3, 100), 4, False, id="kl"),
        pytest.param(Distance(100, 1e-5, 1e-6, 90), 4, False, id="first-token"),
        pytest.param(Distance(100, 1e-5, 1e-6, 100), 1, False, id="replies"),
        pytest.param(Distance(100, 0.0, 0.0, 100, finite=False), 4, False, id="nan"),
        pytest.param(Distance(), 4, False, id="nothing-compared"),
    ],
)
def test_parity_gate(distance, same, passed):
    gate = merge.parity_gate(distance, same, 4, MERGE_LIMITS["float32"])
    assert gate.passed is passed
    assert bool(gate.why) is not passed
    json.dumps(gate.as_json(), allow_nan=False)


def test_folder_without_a_weight_is_refused(tmp_path):
    save_file({}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="there is no weight"):
        stored_weights(tmp_path)
