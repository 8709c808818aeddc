"""The forward pass of a text model, with the attention left to the caller.

The same operations as in transformers' `modeling_gemma3.py`, `modeling_llama.py` and their like, in
fewer calls: while one token a row is computed, it is the calls and not the arithmetic that take the
time.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - the name in torch's own documentation
from torch import Tensor

from xmlgrpo_rollout.cpu.cache import Attend
from xmlgrpo_rollout.int8 import linear
from xmlgrpo_rollout.recipe import Recipe
from xmlgrpo_rollout.weights import (
    DecoderWeights,
    LayerWeights,
    Rope,
    norm_all_heads,
    norm_of,
    rms_norm,
)

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}


def last_logits(
    weights: DecoderWeights,
    rope: Rope,
    tokens_R_T: Tensor,
    places_R_T: Tensor,
    attend: Attend,
) -> Tensor:
    """The logits after each row's last token, (R, vocabulary), in float32.

    Args:
        rope: of the model, for every place that occurs.
        places_R_T: each token's place in its own text, from 0.
        attend: mixes the values; queries and keys come rotated, scores are yet to be multiplied by
            the recipe's `score_factor`.
    """
    recipe = weights.recipe
    activated = ACTIVATIONS[recipe.activation]
    turns = {
        table: (cosine[places_R_T][:, :, None], sine[places_R_T][:, :, None])
        for table, (cosine, sine) in rope.items()
    }
    embedded = F.embedding(tokens_R_T, weights.embedding) * weights.embedding_scale
    hidden_R_T_C = embedded.to(weights.dtype)
    for number, layer in enumerate(weights.layers):
        normed = norm_of(recipe, hidden_R_T_C, layer.before_attention)
        query, key, value = _project(recipe, layer, normed, turns[layer.table])
        mixed = attend(number, layer.kind, query, key, value)
        mixed = linear(mixed, layer.attention_out, layer.biases.get("attention_out"))
        hidden_R_T_C = _added(recipe, hidden_R_T_C, mixed, layer.after_attention)

        normed = norm_of(recipe, hidden_R_T_C, layer.before_mlp)
        gate_up = linear(normed, layer.gate_up, layer.biases.get("gate_up"))
        gate, up = gate_up.chunk(2, dim=-1)
        mapped = linear(activated(gate) * up, layer.down, layer.biases.get("down"))
        hidden_R_T_C = _added(recipe, hidden_R_T_C, mapped, layer.after_mlp)
    return weights.logits(rms_norm(recipe, hidden_R_T_C[:, -1], weights.final_norm))


def _added(recipe: Recipe, hidden: Tensor, given: Tensor, weight: Tensor | None) -> Tensor:
    given = norm_of(recipe, given, weight)
    return hidden + (given if recipe.residual_factor == 1 else given * recipe.residual_factor)


def _project(
    recipe: Recipe,
    layer: LayerWeights,
    normed_R_T_C: Tensor,
    turn: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, (R, T, heads, D) each; the first two normed and rotated."""
    joint = linear(normed_R_T_C, layer.qkv, layer.biases.get("qkv"))
    if recipe.norms_all_heads:
        joint = norm_all_heads(recipe, layer, joint)
    joint = joint.view(*joint.shape[:-1], -1, recipe.head_dim)
    query, key, value = torch.split(joint, [recipe.heads, recipe.kv_heads, recipe.kv_heads], dim=2)
    if not recipe.norms_all_heads:
        query = norm_of(recipe, query, layer.query_norm)
        key = norm_of(recipe, key, layer.key_norm)
    return _rotated(query, turn), _rotated(key, turn), value


def _rotated(vectors_R_T_N_D: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary position embedding (arXiv 2104.09864 eq. 34, halves in place of pairs)."""
    cosine, sine = turn
    turning, rest = vectors_R_T_N_D.tensor_split([cosine.shape[-1]], dim=-1)
    first, second = turning.chunk(2, dim=-1)
    turned = turning * cosine + torch.cat([-second, first], dim=-1) * sine
    turned = turned.to(vectors_R_T_N_D.dtype)  # of an embedding in another type, so is the rope
    return torch.cat([turned, rest], dim=-1) if rest.shape[-1] else turned
