"""The sliding window without a mask gives what a mask gives; the kernel itself runs on a GPU."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from xmlgrpo_trainer.grpo.fast_step.padding import near
from xmlgrpo_trainer.grpo.fast_step.sliding_window import attend, has_kernel

GPU = pytest.mark.gpu
SHAPES = [
    pytest.param((2, 4, 1, 300, 256), 64, id="1b-heads"),
    pytest.param((1, 8, 4, 700, 256), 512, id="4b-heads-and-window"),
    pytest.param((3, 4, 2, 41, 32), 8, id="small"),
    pytest.param((2, 2, 2, 65, 64), 64, id="one-token-more-than-the-window"),
]


def values(shape: tuple[int, int, int, int, int], *, dtype: torch.dtype) -> list[Tensor]:
    """Query, key and value as a layer has them: heads are a view of a token's numbers."""
    rows, heads, key_heads, length, width = shape
    torch.manual_seed(0)
    made = [
        torch.randn(rows, length, count, width, device="cuda").to(dtype).transpose(1, 2)
        for count in (heads, key_heads, key_heads)
    ]
    return [one.requires_grad_() for one in made]


def layer(shape: tuple[int, int, int, int, int]) -> nn.Module:
    module: Any = nn.Module()
    module.num_key_value_groups = shape[1] // shape[2]
    module.is_causal = True
    return cast(nn.Module, module)


def mixed_and_gradients(shape: Any, inputs: list[Tensor], mask: Tensor | None, window: int) -> Any:
    scale = shape[4] ** -0.5
    query, key, value = inputs
    mixed, _ = attend(layer(shape), query, key, value, mask, sliding_window=window, scaling=scale)
    torch.manual_seed(1)
    (mixed.float() * torch.randn(mixed.shape, device="cuda")).sum().backward()
    gradients = [one.grad for one in inputs if one.grad is not None]
    return [one.float() for one in (mixed.detach(), *gradients)]


def distance(found: list[Tensor], expected: list[Tensor]) -> float:
    return max(
        float((one - other).norm() / other.norm())
        for one, other in zip(found, expected, strict=True)
    )


@GPU
@pytest.mark.parametrize(("shape", "window"), SHAPES)
def test_the_kernel_sees_what_the_mask_shows(shape: Any, window: int) -> None:
    half = values(shape, dtype=torch.bfloat16)
    exact = [one.detach().float().requires_grad_() for one in half]
    found = mixed_and_gradients(shape, half, None, window)
    expected, too_few = (
        mixed_and_gradients(
            shape,
            [one.detach().requires_grad_() for one in exact],
            near(shape[3], seen, torch.device("cuda")),
            shape[3],
        )
        for seen in (window, window - 1)
    )
    assert distance(found, expected) < 0.01
    assert distance(too_few, expected) > 2 * distance(found, expected), "one token off would show"


@GPU
def test_autocast_computes_in_half_what_comes_in_float32() -> None:
    shape, window = (2, 4, 1, 100, 256), 64
    query, key, value = values(shape, dtype=torch.float32)
    with torch.autocast("cuda", torch.bfloat16):
        mixed, _ = attend(
            layer(shape), query, key, value, None, sliding_window=window, scaling=0.0625
        )
    assert mixed.dtype == torch.bfloat16
    mask = near(shape[3], window, torch.device("cuda"))
    expected, _ = attend(
        layer(shape), query, key, value, mask, sliding_window=window, scaling=0.0625
    )
    torch.testing.assert_close(mixed.float(), expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("window", [None, 8, 9], ids=["full", "as-long", "longer"])
def test_what_needs_no_window_is_causal(window: int | None) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 2, 8, 4) for _ in range(3))
    found, _ = attend(layer((2, 2, 2, 8, 4)), query, key, value, None, sliding_window=window)
    expected = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    torch.testing.assert_close(found, expected.transpose(1, 2))


def test_a_mask_is_followed_whatever_the_window_is() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 8, 4) for _ in range(3))
    mask = near(8, 3, torch.device("cpu"))
    found, _ = attend(layer((1, 2, 2, 8, 4)), query, key, value, mask, sliding_window=5)
    expected = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(found, expected.transpose(1, 2))


def config(**changes: Any) -> Any:
    return SimpleNamespace(**({"head_dim": 256, "attention_dropout": 0.0} | changes))


@pytest.mark.parametrize(
    ("capability", "device", "dtype", "changes", "expected"),
    [
        pytest.param((9, 0), "cuda", torch.bfloat16, {}, True, id="h200"),
        pytest.param((8, 0), "cuda", torch.bfloat16, {}, True, id="a100"),
        pytest.param((8, 0), "cuda", torch.float16, {}, False, id="float16"),
        pytest.param((7, 5), "cuda", torch.bfloat16, {}, False, id="t4"),
        pytest.param((9, 0), "cuda", torch.float32, {}, False, id="float32"),
        pytest.param((9, 0), "cpu", torch.bfloat16, {}, False, id="cpu"),
        pytest.param((9, 0), "cuda", torch.bfloat16, {"head_dim": 288}, False, id="wide-head"),
        pytest.param((9, 0), "cuda", torch.bfloat16, {"head_dim": 20}, False, id="odd-head"),
        pytest.param((8, 9), "cuda", torch.bfloat16, {"head_dim": 208}, False, id="between-heads"),
        pytest.param((9, 0), "cuda", torch.bfloat16, {"has_flash": False}, False, id="no-flash"),
        pytest.param(
            (9, 0), "cuda", torch.bfloat16, {"attention_dropout": 0.1}, False, id="dropout"
        ),
    ],
)
def test_where_the_kernel_can_be_used(
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    device: str,
    dtype: torch.dtype,
    changes: dict[str, Any],
    *,
    expected: bool,
) -> None:
    changes = dict(changes)
    has_flash = changes.pop("has_flash", True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: has_flash)
    assert has_kernel(config(**changes), torch.device(device), dtype) is expected
