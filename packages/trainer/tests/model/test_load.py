"""Which number type a GPU trains in, and what a model's folder holds."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import OPTConfig

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config.run_config import ModelConfig, RunConfig
from xmlgrpo_trainer.model.load import check_model_folder, choose_placement, load_policy


@pytest.mark.parametrize(
    ("supported", "emulated", "dtype"),
    [
        pytest.param(True, False, "bfloat16", id="l4"),
        pytest.param(False, True, "float32", id="t4"),
        pytest.param(False, False, "float32", id="p100"),
    ],
)
def test_bfloat16_is_taken_where_the_gpu_itself_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, dtype: str, *, supported: bool, emulated: bool
) -> None:
    def is_supported(including_emulation: bool = True) -> bool:
        return supported or (emulated and including_emulation)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    placed = choose_placement(ModelConfig(name="gemma-3-1b", backend="plain"))
    assert (placed.device, placed.dtype) == ("cuda", dtype)
    assert ("no bfloat16" in placed.reason) == (dtype == "float32")


@pytest.mark.parametrize(
    ("there", "said"),
    [
        pytest.param(["config.json", "model.safetensors"], None, id="whole"),
        pytest.param(["config.json", "model-00001-of-00002.safetensors"], None, id="in-parts"),
        pytest.param(["model.safetensors"], "no config.json", id="no-settings"),
        pytest.param(["config.json", "pytorch_model.bin"], "pytorch_model.bin is not", id="pickle"),
        pytest.param(["config.json"], r"no \*\.safetensors; expected", id="no-weights"),
    ],
)
def test_a_model_folder_holds_settings_and_safetensors(
    tmp_path: Path, there: list[str], said: str | None
) -> None:
    for name in there:
        (tmp_path / name).write_text("{}", encoding="utf-8")
    if said is None:
        check_model_folder(str(tmp_path))
        return
    with pytest.raises(UserError, match=said):
        check_model_folder(str(tmp_path))


@pytest.mark.parametrize("name", ["outputs/gone/merged", "gone/", "./gone", "/gone"])
def test_a_path_without_a_folder_is_not_looked_up_on_the_hub(name: str) -> None:
    with pytest.raises(UserError, match=r"no model at .*: expected a folder or a Hub id"):
        check_model_folder(name)


@pytest.mark.parametrize(("width", "is_refused"), [(8, False), (16, True)])
def test_embeddings_narrower_than_the_layers_are_no_other_model(
    tmp_path: Path, width: int, *, is_refused: bool
) -> None:
    """As in OPT-350m; without a tokenizer the model is refused all the same."""
    OPTConfig(vocab_size=50, hidden_size=16, word_embed_proj_dim=8).save_pretrained(tmp_path)
    weights = {"model.decoder.embed_tokens.weight": torch.zeros(50, width)}
    save_file(weights, tmp_path / "model.safetensors")
    config = RunConfig(model=ModelConfig(name=str(tmp_path), backend="plain", device="cpu"))
    with pytest.raises(UserError) as caught:
        load_policy(config, str(tmp_path), choose_placement(config.model))
    assert ("describes another model" in str(caught.value)) == is_refused
