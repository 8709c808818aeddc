"""The quantization types: their names, their numbers, their limits."""

import json
import subprocess
import sys

import pytest

from xmlgrpo_exporter.quants import (
    FILE_TYPES,
    estimated_bytes,
    limits_for,
    parse_quants,
)
from xmlgrpo_rewards.errors import UserError


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["q8_0 q4_k_m"], ("q8_0", "q4_k_m"), id="one-word-from-make"),
        pytest.param(["q8_0", "q4_k_m"], ("q8_0", "q4_k_m"), id="several-words"),
        pytest.param(["Q8_0,F16"], ("q8_0", "f16"), id="commas-and-case"),
        pytest.param(["f16 f16"], ("f16",), id="duplicates"),
    ],
)
def test_parse_quants(words, expected):
    assert parse_quants(words) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["q5_k"], "did you mean 'q5_k_", id="typo"),
        pytest.param(["int8"], "known: f32, f16", id="unknown"),
        pytest.param([" "], "got none", id="nothing"),
        pytest.param(["q8_0 iq2_xs"], "iq2_xs: .* add --imatrix", id="too-few-bits"),
    ],
)
def test_wrong_quants(words, expected):
    with pytest.raises(UserError, match=expected):
        parse_quants(words)


@pytest.mark.gguf
def test_file_types_are_the_library_s():
    script = (
        "import json, llama_cpp; print(json.dumps({k[6:].removeprefix('FTYPE_')"
        ".removeprefix('MOSTLY_').removeprefix('ALL_').lower(): v for k, v in "
        "vars(llama_cpp).items() if k.startswith('LLAMA_FTYPE_')}))"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )
    theirs = json.loads(said.stdout)
    assert {name: theirs[name] for name in FILE_TYPES} == FILE_TYPES


def test_given_limits_count_and_the_others_stay():
    own = limits_for("q8_0", {})
    mixed = limits_for("q8_0", {"mean_kl": 0.5})
    assert (mixed.mean_kl, mixed.top1) == (0.5, own.top1)
    assert limits_for("f16", {}).mean_kl < own.mean_kl
    falling = ("f16", "q8_0", "q6_k", "q5_0", "q4_k_m", "unknown")
    allowed = [limits_for(quant, {}).mean_kl for quant in falling]
    assert allowed == sorted(allowed)


def test_estimates_are_on_the_high_side():
    # measured: the 270M shape (268,098,176 weights), bf16 543 MB, q8_0 292 MB, q4_k_m 254 MB;
    # the tokenizer is part of the first figure
    assert estimated_bytes("bf16", 268_098_176) == 536_196_352
    assert estimated_bytes("q4_k_m", 268_098_176) > 254e6
