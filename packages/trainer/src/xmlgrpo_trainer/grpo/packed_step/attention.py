"""Attention over a packed row: a prompt sees itself, a completion its prompt and itself.

On a GPU with the kernel for it that is one call of variable length (FlashAttention,
arXiv 2307.08691; its causal mask is aligned at the end of both, as a text with a prefix needs it);
elsewhere one call a span, with a mask.  Which of the two is not a matter of results.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from xmlgrpo_rollout.attention_guard import masked_attention
from xmlgrpo_trainer.grpo.fast_step.sliding_window import GQA, has_kernel
from xmlgrpo_trainer.grpo.packed_step.layout import Layout, Span

NAME = "xmlgrpo_packed"  # with "flash" or "sdpa" in it transformers would take it for its own


OfHeads = tuple[Tensor, Tensor, Tensor]  # queries (1, H, N, D), keys and values (1, K, N, D)


def take_layouts(config: Any) -> None:
    """Have a text model's attention read the layout of a packed row where it is given one.

    Without one it computes as before.  The name stays: a layer that is computed again for its
    gradient asks for it once more.
    """
    before = config._attn_implementation  # noqa: SLF001 - no public name
    if before != NAME:
        AttentionInterface.register(NAME, partial(_attend, ALL_ATTENTION_FUNCTIONS[before]))
        AttentionMaskInterface.register(NAME, sdpa_mask)
        config._attn_implementation = NAME  # noqa: SLF001


def _attend(  # noqa: PLR0917 - transformers passes them by position
    usual: Callable[..., tuple[Tensor, None]],
    module: nn.Module,
    query_1_H_N_D: Tensor,
    key_1_K_N_D: Tensor,
    value_1_K_N_D: Tensor,
    attention_mask: Tensor | None,
    *,
    packed: Layout | None = None,
    sliding_window: int | None = None,
    scaling: float | None = None,
    **named: Any,
) -> tuple[Tensor, None]:
    """Mixed values, (1, N, H, D), and no weights."""
    if packed is None:
        named |= {"sliding_window": sliding_window, "scaling": scaling}
        return usual(module, query_1_H_N_D, key_1_K_N_D, value_1_K_N_D, attention_mask, **named)
    scale = query_1_H_N_D.shape[-1] ** -0.5 if scaling is None else scaling
    of_heads = query_1_H_N_D, key_1_K_N_D, value_1_K_N_D
    return mixed_values(module.config, packed, of_heads, sliding_window, scale), None


def mixed_values(
    config: Any, packed: Layout, of_heads: OfHeads, window: int | None, scale: float
) -> Tensor:
    """What each token sees, mixed: (1, N, H, D).

    Args:
        config: of the text model.
        of_heads: queries and keys are rotated, H is a multiple of K.
        window: how many tokens of its text a token sees; None for all.
        scale: of the scores.
    """
    at_once = has_kernel(config, of_heads[0].device, of_heads[0].dtype)
    return (_at_once if at_once else _by_span)(packed, of_heads, window, scale)


def _by_span(packed: Layout, of_heads: OfHeads, window: int | None, scale: float) -> Tensor:
    query, key, value = of_heads

    def mixed(span: Span) -> Tensor:
        own = slice(span.start, span.start + span.length)
        before = slice(span.prefix_start, span.prefix_start + span.prefix_length)
        keys, values = (torch.cat([of[:, :, before], of[:, :, own]], dim=2) for of in (key, value))
        seen_T_S = torch.ones(span.length, keys.shape[2], dtype=torch.bool, device=query.device)
        seen_T_S = seen_T_S.tril_(span.prefix_length)
        if window is not None:
            seen_T_S = seen_T_S.triu_(span.prefix_length + 1 - window)
        return masked_attention(query[:, :, own], keys, values, seen_T_S[None, None], scale=scale)

    return torch.cat([mixed(span) for span in packed.spans], dim=2).transpose(1, 2)


def _at_once(packed: Layout, of_heads: OfHeads, window: int | None, scale: float) -> Tensor:
    query, key, value = of_heads
    visible = packed.visible
    number_type = torch.bfloat16  # as `has_kernel` asks; autocast does not know this function
    mixed_N_H_D: Any = varlen_attn(
        query[0].transpose(0, 1).to(number_type),
        key[0].transpose(0, 1)[visible.seen].to(number_type),
        value[0].transpose(0, 1)[visible.seen].to(number_type),
        cu_seq_q=visible.query_ends,
        cu_seq_k=visible.key_ends,
        max_q=visible.most_queries,
        max_k=visible.most_keys,
        scale=scale,
        window_size=(-1 if window is None else window - 1, 0),
        **GQA,
    )
    packed_1_N_H_D: Tensor = mixed_N_H_D[None]
    return packed_1_N_H_D
