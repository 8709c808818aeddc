"""Which number type a GPU trains in."""

import pytest
import torch

from xmlgrpo_trainer.config.run_config import ModelConfig
from xmlgrpo_trainer.model.load import choose_placement


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
