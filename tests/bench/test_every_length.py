"""Every way of computing a text against plain mathematics, at every length.

On a GPU all cases of bench/lengths/cases.py, with the heads of true models; on a CPU small ones.
torch's fault (docs/measured/attention-at-32.md) is planted in each, to see that it would be found.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name in torch's own documentation
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from bench.lengths.cases import LIMITS, TINY, every_case, is_beside_a_limit, lengths_of, limit_of
from bench.lengths.paths import LONGEST, PATHS, Case, make_model, measure
from xmlgrpo_rollout import attention_guard as attention

ROOT = Path(__file__).resolve().parents[2]
CPU, GPU = torch.device("cpu"), torch.device("cuda")
STRUCK = [33, 161, 513]
BESIDE = [1, 24, 25, 32, 34, 128, 512, 514]
torchs_own = F.scaled_dot_product_attention


def over_limit(case: Case, lengths: list[int], device: torch.device) -> list[int]:
    far = measure(case, lengths, device)
    return [length for length in lengths if not far[length] <= limit_of(case)]


@pytest.mark.gpu
@pytest.mark.parametrize("case", every_case(), ids=lambda case: case.name)
def test_a_gpu_is_right_at_every_length(case: Case) -> None:
    assert over_limit(case, lengths_of(case), GPU) == []


@pytest.mark.slow
@pytest.mark.parametrize("adapted", [False, True], ids=["bare", "lora"])
@pytest.mark.parametrize("shape", TINY.values())
@pytest.mark.parametrize("path", ["graph", "generate", "forward", "aligned-forward"])
def test_a_cpu_is_right_at_every_length(path: str, shape: str, *, adapted: bool) -> None:
    case = Case(path, shape, "float32", window=24, adapted=adapted, added=1)
    assert over_limit(case, share_of_lengths(case), CPU) == []


def share_of_lengths(case: Case) -> list[int]:
    """All with one key head, with and without adapter in turns.

    With several key heads both sides of each limit.  The rest is for a GPU, where it takes minutes.
    """
    every = range(1, LONGEST + 1)
    if case.shape != "tiny-1":
        return [length for length in every if is_beside_a_limit(length, case)]
    return [n for n in every if (n // attention.BLOCK) % 2 == case.adapted]


@pytest.mark.parametrize("path", PATHS)
def test_a_cpu_is_right_on_both_sides_of_each_limit(path: str) -> None:
    for window in (24, 512):
        case = Case(path, "tiny-1", "float32", window=window)
        assert over_limit(case, [*STRUCK, *BESIDE], CPU) == []


# --- the fault, planted


def misreading(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **named: Any
) -> Tensor:
    """What torch before 2.14 computes by its memory-efficient kernel."""
    length = query.shape[2]
    learns = torch.is_grad_enabled() and any(one.requires_grad for one in (query, key, value))
    shared = query.shape[1] > 1 and key.stride(1) == 0 == value.stride(1)
    if attn_mask is not None and shared and length % 32 == 1 < length and not learns:
        attn_mask = torch.cat([attn_mask[..., :-1, :], attn_mask[..., :1, :]], dim=-2)
    return torchs_own(query, key, value, attn_mask=attn_mask, **named)


def misreading_all(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **named: Any
) -> Tensor:
    """The same whatever the keys are, and with a gradient, too."""
    if attn_mask is not None and query.shape[2] % 32 == 1 < query.shape[2]:
        attn_mask = torch.cat([attn_mask[..., :-1, :], attn_mask[..., :1, :]], dim=-2)
    return torchs_own(query, key, value, attn_mask=attn_mask, **named)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch with the fault, wherever the test runs."""
    monkeypatch.setattr(F, "scaled_dot_product_attention", misreading)
    monkeypatch.setattr(attention, "misreads", lambda _device: True)


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_what_reads_prompts_for_the_graph_engine_keeps_clear_of_the_fault(kv_heads: int) -> None:
    torch.manual_seed(0)
    for length in (*STRUCK, *BESIDE):
        query = torch.randn(2, 4, length, 8)
        key, value = torch.randn(2, 2, kv_heads, length, 8)
        mask = torch.ones(2, 1, length, length, dtype=torch.bool).tril().triu(-24)
        keys, values = (one.repeat_interleave(4 // kv_heads, dim=1) for one in (key, value))
        mixed = attention.masked_attention(query, key, value, mask, scale=1.0)
        expected = torchs_own(query, keys, values, attn_mask=mask, scale=1.0)
        torch.testing.assert_close(mixed, expected)


def opened_for_training(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    from xmlgrpo_trainer.config.run_config import RunConfig
    from xmlgrpo_trainer.model import load as model

    monkeypatch.setattr(model, "_load_plain", lambda *_: None)
    placement = model.Placement("plain", "cpu", "float32", "a test")
    model.load_policy(RunConfig(), "a-model", placement)


def opened_for_evaluation(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    from lm_eval.models.huggingface import HFLM

    from xmlgrpo_evaluator.harness.hf import CountedHF

    monkeypatch.setattr(HFLM, "__init__", lambda _self, **_options: None)
    CountedHF(slots=1)


def opened_for_export(_monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    from xmlgrpo_exporter.transformers_model import load_weights

    make_model(Case("forward", "tiny-1", "float32", window=24)).save_pretrained(folder)
    load_weights(str(folder))


@pytest.mark.filterwarnings("default")  # lm-eval uses what newer libraries deprecate
@pytest.mark.parametrize("opened", [opened_for_training, opened_for_evaluation, opened_for_export])
def test_whoever_opens_a_model_guards_it(
    opened: Callable[[pytest.MonkeyPatch, Path], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    functions = ALL_ATTENTION_FUNCTIONS
    monkeypatch.setitem(functions, "sdpa", sdpa_attention_forward)
    opened(monkeypatch, tmp_path)
    assert isinstance(functions["sdpa"], attention.Guarded)


WITHOUT_GRADIENT = ["generate", "forward", "aligned-forward", "recomputed-backward"]


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize("path", WITHOUT_GRADIENT)
@pytest.mark.parametrize("dtype", LIMITS)
def test_torchs_fault_is_found_and_the_guard_keeps_clear_of_it(path: str, dtype: str) -> None:
    case = Case(path, "tiny-1", dtype, window=24, adapted=path == "recomputed-backward")
    assert over_limit(replace(case, guarded=False), [*STRUCK, *BESIDE], CPU) == STRUCK
    assert over_limit(case, [*STRUCK, *BESIDE], CPU) == []


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize("path", ["generate", "forward"])
def test_the_fault_shows_at_a_true_models_width(path: str) -> None:
    """Else the tests on a GPU are blind."""
    case = Case(path, "270m-1b", "float32", window=24, guarded=False, added=1)
    assert over_limit(case, [24, 33], CPU) == [33]


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize("path", ["backward", "aligned-backward"])
def test_training_with_a_gradient_is_not_struck(path: str) -> None:
    case = Case(path, "tiny-1", "float32", window=24, guarded=False)
    assert over_limit(case, [*STRUCK, *BESIDE], CPU) == []


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize("shape", ["tiny-4", "tiny-8"])
def test_several_key_heads_are_not_struck(shape: str) -> None:
    case = Case("forward", shape, "float32", window=24, guarded=False)
    assert over_limit(case, [*STRUCK, *BESIDE], CPU) == []


@pytest.mark.parametrize(
    ("path", "shape"),
    [*((path, "tiny-1") for path in PATHS), ("graph", "tiny-4"), ("forward", "tiny-8")],
)
def test_a_wrong_last_token_is_found_on_every_path(
    monkeypatch: pytest.MonkeyPatch, path: str, shape: str
) -> None:
    monkeypatch.setattr(F, "scaled_dot_product_attention", misreading_all)
    case = Case(path, shape, "float32", window=24)
    assert over_limit(case, [*STRUCK, *BESIDE], CPU) == STRUCK


@pytest.mark.usefixtures("faulty")
@pytest.mark.gpu
@pytest.mark.parametrize("path", ["graph", "generate", "forward", "recomputed-backward"])
@pytest.mark.parametrize("dtype", LIMITS)
def test_a_gpu_finds_the_fault_and_keeps_clear_of_it(path: str, dtype: str) -> None:
    case = Case(path, dtype=dtype, window=24)
    assert over_limit(replace(case, guarded=False), [*STRUCK, *BESIDE], GPU) == STRUCK
    assert over_limit(case, [*STRUCK, *BESIDE], GPU) == []


@pytest.mark.gpu
def test_the_pages_reproduction_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs/measured/attention-at-32.md").read_text(encoding="utf-8")
    exec(page.split("```python\n")[1].split("```")[0], {})  # noqa: S102 - our own page
    struck = [33, 65, 97, 129, 161, 193] if attention.misreads(GPU) else []
    assert capsys.readouterr().out == f"{struck}\n"


@pytest.mark.scripts
def test_the_script_tells_each_case(tmp_path: Path) -> None:
    out = tmp_path / "lengths.json"
    asked = ["--tiny", "--only", "generate", "--budget-s", "1", "--out", str(out)]
    ran = subprocess.run(
        [sys.executable, "-m", "bench.lengths.every_length", *asked],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["not_tried"] == 4, "of five, since the time was up"
    [case] = found["measured"]
    assert case["shape"] == "tiny-1"
    assert case["over_limit"] == []
    assert case["worst"] <= found["limits"]["bfloat16"]
