"""The forward pass of a Gemma 3 text model, with the attention left to the caller.

The same operations as in transformers' `modeling_gemma3.py`, in fewer calls: while one token a row
is computed, it is the calls and not the arithmetic that take the time.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - the name in torch's own documentation
from torch import Tensor

from xmlgrpo_rollout.weights import Gemma3Weights, LayerWeights, Rope

# (number of the layer, its kind, query_R_T_N_D, key_R_T_K_D, value_R_T_K_D) -> mixed_R_T_(N*D)
Attend = Callable[[int, str, Tensor, Tensor, Tensor], Tensor]


def last_logits(
    weights: Gemma3Weights,
    rope: Rope,
    tokens_R_T: Tensor,
    places_R_T: Tensor,
    attend: Attend,
) -> Tensor:
    """The logits after each row's last token, (R, vocabulary).

    Args:
        weights: of the model.
        rope: of the model, for every place that occurs.
        tokens_R_T: token ids.
        places_R_T: each token's place in its own text, from 0.
        attend: mixes the values; queries come scaled, queries and keys rotated.
    """
    eps = weights.eps
    turns = {
        kind: (cosine[places_R_T][:, :, None], sine[places_R_T][:, :, None])
        for kind, (cosine, sine) in rope.items()
    }
    embedded = F.embedding(tokens_R_T, weights.embedding) * weights.embedding_scale
    hidden_R_T_C = embedded.to(weights.dtype)
    for number, layer in enumerate(weights.layers):
        normed = rms_norm(hidden_R_T_C, layer.before_attention, eps)
        query, key, value = _project(weights, layer, normed, turns[layer.kind])
        mixed = F.linear(attend(number, layer.kind, query, key, value), layer.attention_out)
        hidden_R_T_C = hidden_R_T_C + rms_norm(mixed, layer.after_attention, eps)

        normed = rms_norm(hidden_R_T_C, layer.before_mlp, eps)
        gate, up = F.linear(normed, layer.gate_up).chunk(2, dim=-1)
        mapped = F.linear(F.gelu(gate, approximate="tanh") * up, layer.down)
        hidden_R_T_C = hidden_R_T_C + rms_norm(mapped, layer.after_mlp, eps)
    last_R_C = rms_norm(hidden_R_T_C[:, -1], weights.final_norm, eps)
    return F.linear(last_R_C.to(weights.head.dtype), weights.head)


def rms_norm(vectors: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root mean square norm over the last axis, in float32 whatever the vectors are, as Gemma's."""
    return F.rms_norm(vectors.float(), weight.shape, weight, eps).to(vectors.dtype)


def _project(
    weights: Gemma3Weights,
    layer: LayerWeights,
    normed_R_T_C: Tensor,
    turn: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, (R, T, heads, D) each; the first two normed and rotated."""
    eps = weights.eps
    joint = F.linear(normed_R_T_C, layer.qkv)
    joint = joint.view(*joint.shape[:-1], -1, weights.head_dim)
    query, key, value = torch.split(
        joint, [weights.heads, weights.kv_heads, weights.kv_heads], dim=2
    )
    query = _rotated(rms_norm(query, layer.query_norm, eps), turn)
    key = _rotated(rms_norm(key, layer.key_norm, eps), turn)
    return query, key, value


def _rotated(vectors_R_T_N_D: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary position embedding (arXiv 2104.09864 eq. 34, halves in place of pairs)."""
    cosine, sine = turn
    first, second = vectors_R_T_N_D.chunk(2, dim=-1)
    turned = vectors_R_T_N_D * cosine + torch.cat([-second, first], dim=-1) * sine
    return turned.to(vectors_R_T_N_D.dtype)  # of an embedding in another type, so is the rope
