"""Each kernel between a layer's products gives what torch gives, forwards and backwards."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from small_models import tiny, tiny_gemma
from xmlgrpo_rollout.forward import gated, rotated, turns_at
from xmlgrpo_rollout.weights import read_rope, recipe_of, rms_norm

pytestmark = pytest.mark.gpu
TOKENS = 37
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


def learnt(
    compute: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, ...], dtype: torch.dtype
) -> list[torch.Tensor]:
    """The result and the inputs' gradient."""
    torch.manual_seed(0)
    whole = (torch.randn(shape) * 2).to("cuda", dtype).requires_grad_()
    result = compute(whole)
    (grad,) = torch.autograd.grad(
        result, whole, torch.randn(result.shape).to(result.device, result.dtype)
    )
    return [result.float(), grad.float()]


def assert_near(found: list[Any], expected: list[Any], dtype: torch.dtype) -> None:
    limit = 1e-5 if dtype == torch.float32 else 1e-2
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() < limit * other.norm()


@DTYPES
@pytest.mark.parametrize("activation", ["silu", "gelu_pytorch_tanh"])
@pytest.mark.parametrize("size", [48, 1500])
def test_gate(activation: str, size: int, dtype: torch.dtype) -> None:
    from xmlgrpo_trainer.grpo.packed_step import layer_kernels

    shape = (1, TOKENS, 2 * size)
    found = learnt(lambda joint: layer_kernels.gated(joint, activation), shape, dtype)
    assert_near(found, learnt(lambda joint: gated(joint, activation), shape, dtype), dtype)


@DTYPES
@pytest.mark.parametrize(
    ("family", "heads"),
    [
        pytest.param("gemma-3", 4, id="two-tables"),
        pytest.param("qwen-3", 3, id="head-of-24"),
        pytest.param("smollm-3", 1, id="layers-that-are-not-turned"),
        pytest.param("phi-4-without-long-texts", 4, id="a-part-of-each-head"),
    ],
)
def test_rotation_of_heads_beside_others(family: str, heads: int, dtype: torch.dtype) -> None:
    from xmlgrpo_trainer.grpo.packed_step import layer_kernels

    model = (tiny_gemma() if family == "gemma-3" else tiny(family)).to("cuda", dtype)
    size = recipe_of(model).head_dim
    places = torch.arange(TOKENS, device="cuda").flip(0)[None] * 3
    for turn in turns_at(read_rope(model, 3 * TOKENS), places).values():

        def computed(rotate: Any, turn: Any = turn) -> list[torch.Tensor]:
            shape = (1, TOKENS, heads + 2, size)
            return learnt(lambda joint: rotate(joint[:, :, 1 : 1 + heads], turn), shape, dtype)

        assert_near(computed(layer_kernels.rotated), computed(rotated), dtype)


@DTYPES
@pytest.mark.parametrize("family", ["gemma-3", "llama-3", "qwen-3"])
def test_norm(family: str, dtype: torch.dtype) -> None:
    from xmlgrpo_trainer.grpo.packed_step import layer_kernels

    recipe = recipe_of(tiny_gemma() if family == "gemma-3" else tiny(family))
    weight = torch.randn(36, generator=torch.Generator().manual_seed(1)).to("cuda")
    shape = (1, TOKENS, 36)
    found = learnt(lambda given: layer_kernels.normed(recipe, given, weight), shape, dtype)
    assert_near(found, learnt(lambda given: rms_norm(recipe, given, weight), shape, dtype), dtype)
