"""What a token takes at least: the bytes that a GPU must read, against what was measured."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> Any:
    from bench.answering import rollout_scaling

    return rollout_scaling


def test_every_weight_and_the_half_grown_cache_are_read_once(script: Any) -> None:
    weights = 999_885_952 * 2  # bytes; the embedding is the head too
    a_token = 2 * 256 * 2  # bytes of one layer's key and value
    # 4 of 26 layers keep every token, the others 512
    cache = 64 * (22 * 512 + 4 * (150 + 2048)) * a_token
    expected_ms = (weights + cache) / 4.8e12 * 1e3
    found_ms = script.floor_ms(script.SIZES["1b"], "NVIDIA H200", 64, 4096)
    assert found_ms == pytest.approx(expected_ms, abs=0.001)


def test_an_unknown_gpu_has_no_floor(script: Any) -> None:
    assert script.floor_ms(script.SIZES["1b"], "a GPU of tomorrow", 64, 256) is None


def test_what_was_measured_is_above_its_floor(script: Any) -> None:
    told = json.loads((ROOT / "docs/measured/rollout-h200.json").read_text(encoding="utf-8"))
    assert len(told["settings"]) == len(script.SETTINGS) + len(script.FORBIDDING)
    for setting in told["settings"]:
        sizes = (setting["rows"], setting["new_tokens"])
        floor = script.floor_ms(script.SIZES["1b"], told["device"], *sizes)
        assert setting["floor_ms"] == floor
        assert floor < setting["ms_a_token"] < 10 * floor
