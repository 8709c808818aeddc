"""The forward pass of a text model, with attention left to the caller.

The same operations as in transformers' `modeling_gemma3.py`, `modeling_llama.py` and their like, in
fewer calls: while one token a row is computed, it is the calls and not the arithmetic that take the
time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - the name in torch's own documentation
from torch import Tensor

from xmlgrpo_rollout.cpu.cache import Attend
from xmlgrpo_rollout.int8 import linear
from xmlgrpo_rollout.recipe import Recipe
from xmlgrpo_rollout.weights import (
    DecoderWeights,
    Rope,
    norm_all_heads,
    rms_norm,
)

# (number of the layer, one of the recipe's projections, values (..., I)) -> (..., O)
Product = Callable[[int, str, Tensor], Tensor]
Turn = tuple[Tensor, Tensor]  # cosine and sine for tokens, (R, T, 1, turned) each
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}


def rotated(vectors_R_T_N_D: Tensor, turn: Turn) -> Tensor:
    """Rotary position embedding (arXiv 2104.09864 eq. 34, halves in place of pairs)."""
    cosine, sine = turn
    turning, rest = vectors_R_T_N_D.tensor_split([cosine.shape[-1]], dim=-1)
    first, second = turning.chunk(2, dim=-1)
    turned = turning * cosine + torch.cat([-second, first], dim=-1) * sine
    turned = turned.to(vectors_R_T_N_D.dtype)  # of an embedding in another type, so is the rope
    return torch.cat([turned, rest], dim=-1) if rest.shape[-1] else turned


def gated(gate_up: Tensor, activation: str) -> Tensor:
    """The activation of the first half times the second half."""
    gate, up = gate_up.chunk(2, dim=-1)
    return ACTIVATIONS[activation](gate) * up


@dataclass(frozen=True, slots=True)
class Operations:
    """What a layer does in the places where a pass may do it in its own way.

    Attributes:
        attend: mixes the values; queries and keys come rotated, scores are yet to be multiplied by
            the recipe's `score_factor`.
        product: with the layer's matrix of that name, its bias added.
        norm, rotate, gate: the same function as what stands here, in fewer launches.
    """

    attend: Attend
    product: Product
    norm: Callable[[Recipe, Tensor, Tensor], Tensor] = rms_norm
    rotate: Callable[[Tensor, Turn], Tensor] = rotated
    gate: Callable[[Tensor, str], Tensor] = gated


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
        attend: see `Operations`.
    """

    def product(number: int, name: str, values: Tensor) -> Tensor:
        layer = weights.layers[number]
        return linear(values, getattr(layer, name), layer.biases.get(name))

    turns, operations = turns_at(rope, places_R_T), Operations(attend, product)
    hidden_R_T_C = embedded(weights, tokens_R_T)
    for number in range(len(weights.layers)):
        hidden_R_T_C = after_layer(weights, number, hidden_R_T_C, turns, operations)
    return weights.logits(rms_norm(weights.recipe, hidden_R_T_C[:, -1], weights.final_norm))


def turns_at(rope: Rope, places_R_T: Tensor) -> dict[str, Turn]:
    """Of each table, for tokens at these places."""
    return {
        table: (cosine[places_R_T][:, :, None], sine[places_R_T][:, :, None])
        for table, (cosine, sine) in rope.items()
    }


def embedded(weights: DecoderWeights, tokens_R_T: Tensor) -> Tensor:
    """What the first layer is given, (R, T, hidden)."""
    vectors = F.embedding(tokens_R_T, weights.embedding) * weights.embedding_scale
    return vectors.to(weights.dtype)


def after_layer(
    weights: DecoderWeights,
    number: int,
    hidden_R_T_C: Tensor,
    turns: Mapping[str, Turn],
    does: Operations,
) -> Tensor:
    """What a layer makes of it, (R, T, hidden)."""
    recipe, layer = weights.recipe, weights.layers[number]

    def normed(vectors: Tensor, weight: Tensor | None) -> Tensor:
        return vectors if weight is None else does.norm(recipe, vectors, weight)

    def added(hidden: Tensor, given: Tensor, weight: Tensor | None) -> Tensor:
        given = normed(given, weight)
        return hidden + (given if recipe.residual_factor == 1 else given * recipe.residual_factor)

    joint = does.product(number, "qkv", normed(hidden_R_T_C, layer.before_attention))
    if recipe.norms_all_heads:
        joint = norm_all_heads(recipe, layer, joint)
    joint = joint.view(*joint.shape[:-1], -1, recipe.head_dim)
    query, key, value = torch.split(joint, [recipe.heads, recipe.kv_heads, recipe.kv_heads], dim=2)
    if not recipe.norms_all_heads:
        query, key = normed(query, layer.query_norm), normed(key, layer.key_norm)
    query, key = (does.rotate(vectors, turns[layer.table]) for vectors in (query, key))
    mixed = does.attend(number, layer.kind, query, key, value)
    mixed = does.product(number, "attention_out", mixed)
    hidden_R_T_C = added(hidden_R_T_C, mixed, layer.after_attention)

    gate_up = does.product(number, "gate_up", normed(hidden_R_T_C, layer.before_mlp))
    mapped = does.product(number, "down", does.gate(gate_up, recipe.activation))
    return added(hidden_R_T_C, mapped, layer.after_mlp)
