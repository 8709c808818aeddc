"""Whole prompts through a text model on a GPU, into the cache of a `Decoder`.

The same operations as `forward.last_logits`, by the kernels of a decoding step: a few prompts are
so little work that a pass over them takes as long as its launches, of which this has a fifth.
"""

import torch
from torch import Tensor

from xmlgrpo_rollout.attention_guard import masked_attention
from xmlgrpo_rollout.cpu.cache import visible_tokens
from xmlgrpo_rollout.gpu.kernels.keys import split_prompts
from xmlgrpo_rollout.gpu.kernels.norms import add_norm, embed_norm, gated
from xmlgrpo_rollout.int8 import linear
from xmlgrpo_rollout.weights import DecoderWeights, Rope


def read_prompts(
    weights: DecoderWeights,
    rope: Rope,
    tokens_P_T: Tensor,
    padding_P: Tensor,
    *,
    keys: list[Tensor],
    values: list[Tensor],
) -> Tensor:
    """Fill the cache with every prompt, as many times as the cache has rows for each.

    Axes: P prompts, T tokens, N heads, K key heads, D head size, S slots, R rows, V vocabulary.

    Args:
        weights, rope: of the model; places from 0 to T - 1.
        tokens_P_T: token ids, padded on the left.
        padding_P: padding tokens before each prompt, int32.
        keys, values: a layer's cache each, (R, K, S, D) with R a multiple of P; the rows of one
            prompt lie side by side.

    Returns:
        The logits after each prompt, (P, V), in float32.
    """
    prompts, length = tokens_P_T.shape
    recipe, tokens = weights.recipe, prompts * length
    size, kv_heads = recipe.head_dim, recipe.kv_heads
    layers, device, number_type = weights.layers, tokens_P_T.device, weights.dtype

    def room(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=number_type, device=device)

    hidden, normed = (room(tokens, weights.embedding.shape[1]) for _ in range(2))
    gated_M_I = room(tokens, layers[0].down.shape[1])
    query_P_N_T_D = room(prompts, recipe.heads, length, size)
    keys_P_K_T_D, values_P_K_T_D = (room(prompts, kv_heads, length, size) for _ in range(2))
    visible = {
        kind: seen_P_T_T[:, None]
        for kind, seen_P_T_T in visible_tokens(padding_P, length, recipe.window).items()
    }
    embed_norm(
        tokens_P_T.reshape(-1),
        weights.embedding,
        weights.embedding_scale,
        layers[0].before_attention,
        hidden,
        normed,
        recipe,
    )
    after = [layer.before_attention for layer in layers[1:]] + [weights.final_norm]
    for number, (layer, next_norm) in enumerate(zip(layers, after, strict=True)):
        split_prompts(
            linear(normed, layer.qkv, layer.biases.get("qkv")),
            layer,
            rope[layer.table],
            padding_P,
            query_P_N_T_D,
            keys_P_K_T_D,
            values_P_K_T_D,
            recipe,
        )
        spread(keys_P_K_T_D, keys[number])
        spread(values_P_K_T_D, values[number])
        mixed_P_N_T_D = masked_attention(
            query_P_N_T_D,
            keys_P_K_T_D,
            values_P_K_T_D,
            visible[layer.kind],
            scale=recipe.score_factor,
        )
        mixed = mixed_P_N_T_D.transpose(1, 2).reshape(tokens, -1)
        added = linear(mixed, layer.attention_out, layer.biases.get("attention_out"))
        add_norm(added, layer.after_attention, hidden, layer.before_mlp, normed, recipe)
        gate_up = linear(normed, layer.gate_up, layer.biases.get("gate_up"))
        gated(gate_up, gated_M_I, recipe.activation)
        added = linear(gated_M_I, layer.down, layer.biases.get("down"))
        add_norm(added, layer.after_mlp, hidden, next_norm, normed, recipe)
    last_P_C = normed.view(prompts, length, -1)[:, -1]
    return weights.logits(last_P_C)


def spread(source_P_K_T_D: Tensor, target_R_K_S_D: Tensor) -> None:
    """Copy each prompt's keys or values to its rows, each token to slot `place % S`."""
    prompts, kv_heads, length, size = source_P_K_T_D.shape
    slots = target_R_K_S_D.shape[2]
    if length > slots:  # only what is still in the window, turned to where it belongs
        source_P_K_T_D = source_P_K_T_D[:, :, -slots:].roll((length - slots) % slots, dims=2)
        length = slots
    target = target_R_K_S_D.view(prompts, -1, kv_heads, slots, size)
    target[:, :, :, :length] = source_P_K_T_D[:, None]
