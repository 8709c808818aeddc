"""The products of few rows against float64 and against cuBLAS with the kernels that follow it."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name in torch's own documentation

from small_models import PAD, prompts_of, tiny_gemma, with_lora
from xmlgrpo_rollout.engine import Sampling
from xmlgrpo_rollout.weights import recipe_of

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
ACTIVATIONS: dict[str, Any] = {
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}

# rows, hidden size, width: of a tile or less, across tiles, odd
SHAPES = [
    pytest.param(8, 128, 256, id="few-rows"),
    pytest.param(64, 1152, 6912, id="gemma-3-1b"),
    pytest.param(70, 160, 336, id="a-second-tile-of-rows"),
    pytest.param(5, 40, 72, id="less-than-a-tile"),
    pytest.param(3, 37, 51, id="odd"),
]


def tiles(**changed: Any) -> Any:
    from xmlgrpo_rollout.gpu.kernels.products import Tiles

    return replace(Tiles(64, 32, 64, warps=4, stages=3), **changed)


def weights(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    return (torch.randn(rows, columns, device=DEVICE) / float(columns**0.5)).to(dtype)


def far(result: torch.Tensor, exact: torch.Tensor) -> float:
    return float((result.double() - exact).norm() / exact.norm())


def nan(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.full(shape, float("nan"), dtype=dtype, device=DEVICE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("rows", "hidden", "width"), SHAPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_gated_product_is_as_near_to_float64_as_cublas(rows, hidden, width, dtype, activation):
    from xmlgrpo_rollout.gpu.kernels.norms import gated
    from xmlgrpo_rollout.gpu.kernels.products import gated_product

    torch.manual_seed(rows)
    normed = torch.randn(rows, hidden, device=DEVICE).to(dtype)
    gate_up = weights(2 * width, hidden, dtype)
    gate, up = (normed.double() @ gate_up.double().T).chunk(2, dim=1)
    exact = ACTIVATIONS[activation](gate) * up
    own, usual = nan(rows, width, dtype=dtype), nan(rows, width, dtype=dtype)
    gated_product(normed, gate_up, own, tiles(), activation)
    gated(F.linear(normed, gate_up), usual, activation)
    # the roundings differ by chance, the less so the more numbers there are
    assert far(own, exact) < far(usual, exact) * (1 + 4 / (rows * width) ** 0.5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("rows", "hidden", "width"), SHAPES)
@pytest.mark.parametrize("splits", [1, 3, 12])
def test_parts_add_up_to_the_product_and_the_norm_sums_them(rows, hidden, width, splits, dtype):
    from xmlgrpo_rollout.gpu.kernels.norms import add_norm
    from xmlgrpo_rollout.gpu.kernels.products import split_product

    torch.manual_seed(rows)
    values = torch.randn(rows, width, device=DEVICE).to(dtype)
    down = weights(hidden, width, dtype)
    parts = nan(splits, rows, hidden, dtype=torch.float32)
    split_product(values, down, parts, tiles(splits=splits))
    # tensor cores cut what they add: 8e-6 was seen at a depth of 6912 on an H200
    assert far(parts.sum(0), values.double() @ down.double().T) < 2e-5

    after = torch.rand(hidden, device=DEVICE) + 0.5
    before = torch.rand(hidden, device=DEVICE) + 0.5
    residual = torch.randn(rows, hidden, device=DEVICE).to(dtype)
    recipe, results = recipe_of(tiny_gemma()), []
    for mixed in (parts, sum(parts.unbind()[1:], parts[0]).to(dtype)):
        total, normed = residual.clone(), nan(rows, hidden, dtype=dtype)
        add_norm(mixed, after, total, before, normed, recipe)
        results.append((total, normed))
    for summed_there, summed_before in zip(*results, strict=True):
        assert torch.equal(summed_there, summed_before)


@pytest.mark.parametrize(
    ("dtype", "shape", "rows", "is_ours"),
    [
        pytest.param(torch.bfloat16, (96, 48), 64, True, id="bfloat16"),
        pytest.param(torch.float16, (96, 48), 1, True, id="float16"),
        pytest.param(torch.bfloat16, (96, 48), 65, False, id="too-many-rows"),
        pytest.param(torch.float32, (96, 48), 8, False, id="float32"),
        pytest.param(torch.bfloat16, (96, 40), 8, False, id="odd-depth"),
    ],
)
def test_who_computes_a_product(dtype, shape, rows, is_ours, monkeypatch):
    from xmlgrpo_rollout.gpu.kernels.products import tiles_for

    asked = torch.zeros(shape, dtype=dtype, device=DEVICE)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert (tiles_for("down", asked, rows) is not None) is is_ours
    # an RTX 4090 has not the shared memory
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    assert tiles_for("down", asked, rows) is None


INT8_BOUNDS = {torch.bfloat16: 2**-7, torch.float32: 2e-6}  # four roundings


def int8_matrix(rows: int, columns: int, dtype: torch.dtype) -> Any:
    from xmlgrpo_rollout.int8 import Int8Matrix

    numbers = torch.empty(rows, columns, dtype=torch.int8, device=DEVICE)
    made = Int8Matrix(numbers, torch.empty(rows, device=DEVICE), dtype)
    made.write(torch.randn(rows, columns, device=DEVICE) / float(columns**0.5))
    return made


def meant(matrix: Any) -> Any:
    return matrix.numbers.double() * matrix.scales.double()[:, None]


@pytest.mark.parametrize("dtype", INT8_BOUNDS, ids=str)
@pytest.mark.parametrize(("rows", "hidden", "width"), SHAPES)
def test_products_with_8_bits_are_those_of_the_weights_that_are_meant(rows, hidden, width, dtype):
    from xmlgrpo_rollout.gpu.kernels.products import gated_product, split_product, tiles_for

    torch.manual_seed(rows)
    normed = torch.randn(rows, hidden, device=DEVICE).to(dtype)
    gate_up, down = int8_matrix(2 * width, hidden, dtype), int8_matrix(hidden, width, dtype)
    whole, split = (tiles_for(*of, rows) for of in (("gate_up", gate_up), ("down", down)))
    assert whole is not None
    assert split is not None
    gate, up = (normed.double() @ meant(gate_up).T).chunk(2, dim=1)
    own = nan(rows, width, dtype=dtype)
    gated_product(normed, gate_up, own, whole, "silu")
    assert far(own, F.silu(gate) * up) < INT8_BOUNDS[dtype]
    for chosen in (split, replace(split, splits=1)):
        parts = nan(chosen.splits, rows, hidden, dtype=torch.float32)
        split_product(own, down, parts, chosen)
        assert far(parts.sum(0), own.double() @ meant(down).T) < 2e-5


def test_a_decoder_with_our_products_stays_close_to_the_policy():
    from xmlgrpo_rollout.gpu.engine import GraphEngine
    from xmlgrpo_rollout.gpu.kernels import products

    shape = {"head_dim": 16, "query_pre_attn_scalar": 16, "hidden_size": 48}
    model = with_lora(tiny_gemma(**shape)).to(torch.bfloat16).to(DEVICE)
    engine = GraphEngine(model, [10**6], PAD)
    prompts = prompts_of([9, 30, 4])
    differences = []
    for prompt, completion in zip(
        prompts, engine(prompts, 1, Sampling(40, temperature=1.0)), strict=True
    ):
        text = torch.tensor([[*prompt, *completion.tokens]], device=DEVICE)
        with torch.no_grad():
            logits = model(text).logits[0, len(prompt) - 1 : -1].float()
        expected = logits.log_softmax(-1).gather(1, text[0, len(prompt) :, None])[:, 0].cpu()
        differences.append((torch.tensor(completion.logprobs) - expected).abs())
    [kept] = engine._decoders.values()
    if torch.cuda.get_device_capability()[0] == products.MEASURED_ON:
        [step] = kept.decoder.steps.values()
        assert set(step.tiles) == {"attention_out", "gate_up", "down"}
    assert torch.cat(differences).mean() < 0.1  # as with cuBLAS, see test_graph.py
