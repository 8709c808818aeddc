"""Attention of a sliding layer without a mask, where a text is longer than the window.

A mask keeps torch from its flash kernel, and the kernel that reads one computes every pair of
tokens: at 2,048 tokens three quarters of them come later or lie outside Gemma 3's window of 512.
The flash kernel (arXiv 2307.08691) takes the window as two numbers and leaves them out.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from xmlgrpo_rollout.attention_guard import guard_transformers

NAME = "xmlgrpo_window"  # with "flash" or "sdpa" in it transformers would take it for its own
HEAD_MULTIPLE, LARGEST_HEAD, GEMMA_HEAD = 8, 192, 256  # between the two only some GPUs train
AMPERE = (8, 0)
# torch 2.12 shares key heads only where this is given; 2.11 always does, and does not know it
_KNOWS_GQA = "enable_gqa" in inspect.signature(varlen_attn).parameters
GQA: dict[str, Any] = {"enable_gqa": True} if _KNOWS_GQA else {}


def take_windows(config: Any) -> None:
    """Have a text model's attention read `sliding_window` where it is given no mask."""
    guard_transformers()
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    config._attn_implementation = NAME  # noqa: SLF001 - no public name


def has_kernel(config: Any, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `attend` can do without a mask: bfloat16 on a GPU whose kernel knows the heads."""
    if device.type != "cuda" or not torch.backends.cuda.is_flash_attention_available():
        return False
    if torch.cuda.get_device_capability(device) < AMPERE:
        return False
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    is_known = width % HEAD_MULTIPLE == 0 and (width <= LARGEST_HEAD or width == GEMMA_HEAD)
    return (
        is_known and not config.attention_dropout and _number_type(device, dtype) == torch.bfloat16
    )


def attend(
    module: nn.Module,
    query_B_H_T_D: Tensor,
    key_B_K_T_D: Tensor,
    value_B_K_T_D: Tensor,
    attention_mask: Tensor | None,
    *,
    sliding_window: int | None = None,
    scaling: float | None = None,
    **named: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it; its own one but for a window without a mask.

    Args:
        query_B_H_T_D, key_B_K_T_D, value_B_K_T_D: H a multiple of K.
        attention_mask: None means causal, from the first token on; past the window only where
            `has_kernel` holds.
        sliding_window: tokens that a token sees, itself among them; None for all.

    Returns:
        Mixed values, (B, T, H, D), and no weights.
    """
    rows, heads, length, width = query_B_H_T_D.shape
    if attention_mask is not None or sliding_window is None or length <= sliding_window:
        named["scaling"] = scaling
        mixed, _ = ALL_ATTENTION_FUNCTIONS["sdpa"](
            module, query_B_H_T_D, key_B_K_T_D, value_B_K_T_D, attention_mask, **named
        )
        return mixed, None
    device = query_B_H_T_D.device
    starts = torch.arange(0, (rows + 1) * length, length, device=device, dtype=torch.int32)
    mixed_BT_H_D: Any = varlen_attn(  # its type allows for a second tensor, which is not asked for
        _packed(query_B_H_T_D),
        _packed(key_B_K_T_D),
        _packed(value_B_K_T_D),
        cu_seq_q=starts,
        cu_seq_k=starts,
        max_q=length,
        max_k=length,
        scale=scaling,
        window_size=(sliding_window - 1, 0),  # it counts the tokens before, and none behind
        **GQA,
    )
    return mixed_BT_H_D.view(rows, length, heads, width), None


def _packed(values_B_H_T_D: Tensor) -> Tensor:
    """All texts' tokens one after another, (B x T, H, D), in the type that is computed with."""
    in_order = values_B_H_T_D.transpose(1, 2).flatten(0, 1)
    return in_order.to(_number_type(in_order.device, in_order.dtype))


def _number_type(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """Autocast knows torch's own attention and not this one."""
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return dtype
