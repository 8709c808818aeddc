"""Keys and values of the tokens so far, in tensors allocated once, and the attention over them.

Rows are padded on the left, so that every row's newest token is in the same slot: a sliding layer
then sees a plain slice of the slots, and only the padding needs a mask.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from xmlgrpo_rollout.recipe import FULL, SLIDING, Recipe

# (number of the layer, its kind, query_R_T_N_D, key_R_T_K_D, value_R_T_K_D) -> mixed_R_T_(N*D)
Attend = Callable[[int, str, Tensor, Tensor, Tensor], Tensor]


@dataclass(slots=True)
class KeyValueCache:
    """Keys and values of `rows` texts; each layer's are (rows, kv_heads, slots, head_dim).

    Attributes:
        keys, values: one tensor a layer.
        used: how many slots are filled, the same for every row.
        padding_bias: 0 for a slot that holds a token, minus infinity for padding: (rows, slots).
    """

    keys: list[Tensor]
    values: list[Tensor]
    used: int
    recipe: Recipe
    padding_bias: Tensor

    def grown(self, rows: Tensor, slots: int) -> "KeyValueCache":
        """A copy of these rows, each as often as it is named, with room for `slots` slots."""
        used = self.used

        def copied(old: Tensor) -> Tensor:
            new = old.new_empty(len(rows), old.shape[1], slots, old.shape[3])
            new[:, :, :used] = old[rows, :, :used]
            return new

        bias = self.padding_bias.new_zeros(len(rows), slots)
        bias[:, :used] = self.padding_bias[rows, :used]
        return KeyValueCache(
            [copied(keys) for keys in self.keys],
            [copied(values) for values in self.values],
            used=used,
            recipe=self.recipe,
            padding_bias=bias,
        )

    def attend(
        self,
        number: int,
        kind: str,
        query_R_1_N_D: Tensor,
        key_R_1_K_D: Tensor,
        value_R_1_K_D: Tensor,
    ) -> Tensor:
        """One new token a row: store its key and value, mix what the layer may see.

        Written for one query a row, where plain products beat torch's fused attention on a CPU;
        query heads that share a key head are computed together.
        """
        at = self.used
        window = self.recipe.window if kind == SLIDING else None
        start = 0 if window is None else max(0, at + 1 - window)
        keys, values = self.keys[number], self.values[number]
        keys[:, :, at] = key_R_1_K_D[:, 0]
        values[:, :, at] = value_R_1_K_D[:, 0]
        rows, kv_heads, _, size = keys.shape
        query_R_K_G_D = query_R_1_N_D.reshape(rows, kv_heads, -1, size)
        scores = query_R_K_G_D @ keys[:, :, start : at + 1].transpose(2, 3)
        if self.recipe.score_factor != 1:
            scores *= self.recipe.score_factor
        scores += self.padding_bias[:, None, None, start : at + 1]
        mixed_R_K_G_D = scores.softmax(dim=-1) @ values[:, :, start : at + 1]
        return mixed_R_K_G_D.reshape(rows, 1, -1)


def prefill(padding_R: Tensor, length: int, recipe: Recipe) -> tuple[KeyValueCache, Attend]:
    """An empty cache and the attention that fills it with whole prompts.

    Args:
        padding_R: padding tokens before each row's prompt.
        length: tokens a row, padding included.
        recipe: of the model.
    """
    visible = visible_tokens(padding_R, length, recipe.window)
    is_padding_R_T = torch.arange(length, device=padding_R.device) < padding_R[:, None]
    bias = torch.zeros(is_padding_R_T.shape, device=padding_R.device)
    cache = KeyValueCache(
        [],
        [],
        used=length,
        recipe=recipe,
        padding_bias=bias.masked_fill(is_padding_R_T, -torch.inf),
    )

    def attend(_number: int, kind: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        key, value = key.transpose(1, 2), value.transpose(1, 2)
        cache.keys.append(key)
        cache.values.append(value)
        group = query.shape[2] // key.shape[1]
        mixed_R_N_T_D = torch.nn.functional.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.repeat_interleave(group, dim=1),
            value.repeat_interleave(group, dim=1),
            attn_mask=visible[kind][:, None],
            scale=recipe.score_factor,
        )
        return mixed_R_N_T_D.transpose(1, 2).flatten(2)

    return cache, attend


def visible_tokens(padding_R: Tensor, length: int, window: int | None) -> dict[str, Tensor]:
    """For each kind of layer, which tokens each token of a left-padded prompt sees: (R, T, T).

    Args:
        window: how many tokens a sliding layer sees; None where there is none.
    """
    is_text_R_T = torch.arange(length, device=padding_R.device) >= padding_R[:, None]
    # a byte a pair of tokens: whole distances of a long prompt would take eight
    causal_T_T = padding_R.new_ones(length, length, dtype=torch.bool).tril_()
    causal_R_T_T = causal_T_T & is_text_R_T[:, None]
    # padding sees itself: a row without anything to see would give NaN, and NaN spreads
    causal_R_T_T.diagonal(dim1=1, dim2=2).fill_(True)  # noqa: FBT003 - the value is the point
    if window is None:
        return {FULL: causal_R_T_T}
    return {FULL: causal_R_T_T, SLIDING: causal_R_T_T.triu(1 - window)}
