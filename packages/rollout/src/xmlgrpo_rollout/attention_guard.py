"""torch's attention as transformers calls it, kept from a fault, and from leaving out a cap.

A cap of the scores, as Gemma 2 has, is nothing that torch's attention knows, and transformers calls
it all the same: the cap is left out, without a word.  Here such a model's scores are capped.

The fault is one of torch before 2.14, of attention with a mask.  Its memory-efficient kernel on
CUDA works on blocks of 32 queries (of 64 where a head is narrow).  Where the last block has one
query only, all heads share one key head as a view (stride 0), and no gradient is wanted, it takes
the heads for queries, and reads the mask's first row in place of that query's: the last token then
sees the first one and nothing else.  So every length that is 1 more than a multiple of 32 is wrong
in a model with one key head, as Gemma 3 270M and 1B, unless torch takes another kernel: cuDNN's in
16 bits on Hopper, where it is not switched off.

pytorch issue 191937, fixed by pull requests 191984 and 192138.  `kernel_forward.h`, which every
wheel of torch carries, has the fault in 2.11, 2.12 and 2.13, and has not in 2.14.0.  See
docs/measured/attention-at-32.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name in torch's own documentation
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

FIRST_RIGHT = "2.14"  # torch's version type compares it as a version
BLOCK = 32  # queries; the lengths that are wrong with 64 are among those that are wrong with 32


def misreads(device: torch.device) -> bool:
    """Whether this torch has the fault there."""
    return device.type == "cuda" and torch.__version__ < FIRST_RIGHT


def may_misread(query_B_N_T_D: Tensor, key_B_K_S_D: Tensor) -> bool:
    """Whether torch's result may be wrong where there is a mask.

    One query alone, as in decoding, reads the right row of its mask: it is the first.
    """
    _, heads, length, _ = query_B_N_T_D.shape
    is_shared = key_B_K_S_D.shape[1] == 1 < heads
    return is_shared and length % BLOCK == 1 < length and misreads(query_B_N_T_D.device)


def with_spare_query(query_B_N_T_D: Tensor, mask_B_1_T_S: Tensor) -> tuple[Tensor, Tensor]:
    """One more query at the end, which sees everything and is not to be looked at.

    Less to copy than keys and values of each head's own would be, and as sure a cure.
    """
    one_row = (0, 0, 0, 1)
    return F.pad(query_B_N_T_D, one_row), F.pad(mask_B_1_T_S, one_row, value=True)


def masked_attention(
    query_B_N_T_D: Tensor,
    key_B_K_S_D: Tensor,
    value_B_K_S_D: Tensor,
    mask_B_1_T_S: Tensor,
    *,
    scale: float,
) -> Tensor:
    """Mixed values, (B, N, T, D); N / K query heads share a key head."""
    heads, length = query_B_N_T_D.shape[1:3]
    if may_misread(query_B_N_T_D, key_B_K_S_D):
        query_B_N_T_D, mask_B_1_T_S = with_spare_query(query_B_N_T_D, mask_B_1_T_S)
    mixed_B_N_T_D = F.scaled_dot_product_attention(
        query_B_N_T_D,
        _for_each_head(key_B_K_S_D, heads),
        _for_each_head(value_B_K_S_D, heads),
        attn_mask=mask_B_1_T_S,
        scale=scale,
    )
    return mixed_B_N_T_D[:, :, :length]


def capped_attention(
    query_B_N_T_D: Tensor,
    key_B_K_S_D: Tensor,
    value_B_K_S_D: Tensor,
    mask_B_1_T_S: Tensor | None,
    *,
    scale: float,
    cap: float,
) -> Tensor:
    """Mixed values, (B, N, T, D), by scores that stay within `cap` (arXiv 2408.00118, section 2).

    Args:
        mask_B_1_T_S: what is seen, or what is added to the scores; None means causal.
        scale: of the scores, before they are capped.
    """
    heads, length = query_B_N_T_D.shape[1:3]
    key, value = _for_each_head(key_B_K_S_D, heads), _for_each_head(value_B_K_S_D, heads)
    scores = (query_B_N_T_D @ key.transpose(2, 3) * (scale / cap)).tanh() * cap
    if mask_B_1_T_S is None:
        seen = key.shape[2]
        mask_B_1_T_S = torch.ones(length, seen, dtype=torch.bool, device=key.device)
        mask_B_1_T_S = mask_B_1_T_S.tril(seen - length)
    if mask_B_1_T_S.dtype == torch.bool:  # finite, or padding, which sees nothing, would be NaN
        scores = scores.masked_fill(~mask_B_1_T_S, torch.finfo(scores.dtype).min)
    else:
        scores = scores + mask_B_1_T_S
    return scores.float().softmax(dim=-1).to(value.dtype) @ value


def _for_each_head(shared_B_K_S_D: Tensor, heads: int) -> Tensor:
    """Keys or values as often as query heads share them; a view where there is one key head."""
    rows, kv_heads, length, size = shared_B_K_S_D.shape
    repeated = shared_B_K_S_D[:, :, None].expand(rows, kv_heads, heads // kv_heads, length, size)
    return repeated.reshape(rows, heads, length, size)


@dataclass(frozen=True, slots=True)
class Guarded:
    """An attention function of transformers', called so that it keeps clear of both."""

    attend: Callable[..., tuple[Tensor, None]]

    def __call__(
        self,
        module: Any,
        query_B_N_T_D: Tensor,
        key_B_K_S_D: Tensor,
        value_B_K_S_D: Tensor,
        attention_mask: Tensor | None,
        **named: Any,
    ) -> tuple[Tensor, None]:
        """Mixed values, (B, T, N, D), and no weights."""
        length = query_B_N_T_D.shape[2]
        if cap := named.get("softcap"):
            of_heads = query_B_N_T_D, key_B_K_S_D, value_B_K_S_D
            mixed = capped_attention(*of_heads, attention_mask, scale=named["scaling"], cap=cap)
            return mixed.transpose(1, 2), None
        if attention_mask is not None and may_misread(query_B_N_T_D, key_B_K_S_D):
            query_B_N_T_D, attention_mask = with_spare_query(query_B_N_T_D, attention_mask)
        mixed_B_T_N_D, _ = self.attend(
            module, query_B_N_T_D, key_B_K_S_D, value_B_K_S_D, attention_mask, **named
        )
        return mixed_B_T_N_D[:, :length], None


def guard_transformers() -> None:
    """Have every model that computes by "sdpa" keep clear of both, in this whole process.

    The present function is wrapped, Unsloth's own included.  It may be called again.
    """
    present = ALL_ATTENTION_FUNCTIONS["sdpa"]
    if not isinstance(present, Guarded):
        ALL_ATTENTION_FUNCTIONS["sdpa"] = Guarded(present)
