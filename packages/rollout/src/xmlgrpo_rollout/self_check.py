"""The engine's arithmetic against the model's own, once, on a few tokens of the loaded model.

`which_engine` decides by names: of classes, and of what a configuration says.  A class that was
changed under its name, or a setting that a later transformers reads, passes there and not here.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from xmlgrpo_rollout.cpu.cache import prefill
from xmlgrpo_rollout.cpu.forward import last_logits
from xmlgrpo_rollout.weights import DecoderWeights, base_model, read_rope

LENGTH = 40  # tokens: more than one of attention's blocks, and not the length that torch misreads
# What two right computations are apart, as a share of the logits' spread: up to 2.3 times what it
# makes to round the norms elsewhere (bfloat16, random models of every family); in float32 nothing.
ROUNDINGS, FLOOR = 4, 0.002


def why_not_alike(model: nn.Module, weights: DecoderWeights) -> str | None:
    """Why the engine may not answer for a model: its logits are others; None when they are not.

    Args:
        model: as it is loaded, bare or with an adapter.
        weights: that the engine has read from it.
    """
    recipe = weights.recipe
    rounded_elsewhere = replace(
        weights, recipe=replace(recipe, rounds_first=not recipe.rounds_first)
    )
    with torch.no_grad():
        own_V, found_V = _own_logits(model, _ids(weights)), _logits(model, weights)
        noise = _distance(found_V, _logits(model, rounded_elsewhere), own_V)
        off = _distance(found_V, own_V, own_V)
    if off <= FLOOR + ROUNDINGS * noise:
        return None
    return (
        f"its logits are not {type(base_model(model)).__name__}'s own (off by {off:.1%} of their "
        "spread on a few tokens): this model computes something that its configuration does not "
        "tell"
    )


def _ids(weights: DecoderWeights) -> Tensor:
    # low ones: a model that also sees has a token for an image, which is one of the last
    device, vocabulary = weights.head.device, weights.head.shape[0]
    return (torch.arange(LENGTH, device=device) * 7 + 1)[None] % vocabulary


def _distance(one_V: Tensor, other_V: Tensor, scale_V: Tensor) -> float:
    return float((one_V - other_V).square().mean().sqrt() / scale_V.std())


def _logits(model: nn.Module, weights: DecoderWeights) -> Tensor:
    """The engine's, (V,), in float32."""
    ids_1_T = _ids(weights)
    padding, places_T = torch.zeros_like(ids_1_T[:, 0]), torch.arange(LENGTH, device=ids_1_T.device)
    _, attend = prefill(padding, LENGTH, weights.recipe)
    rope = read_rope(model, LENGTH)
    return last_logits(weights, rope, ids_1_T, places_T[None], attend)[0].float()


def _own_logits(model: Any, ids_1_T: Tensor) -> Tensor:
    was_training = model.training
    model.eval()
    try:
        logits_1_T_V: Tensor = model(input_ids=ids_1_T, use_cache=False).logits
    finally:
        model.train(was_training)
    return logits_1_T_V[0, -1].float()
