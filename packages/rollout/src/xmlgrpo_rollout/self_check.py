"""The engine's arithmetic against the model's own, once, on a few tokens of the loaded model.

`which_engine` decides by names: of classes, and of what a configuration says.  A class that was
changed under its name, or a setting that a later transformers reads, passes there and not here.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from xmlgrpo_rollout.cpu.cache import prefill
from xmlgrpo_rollout.forward import last_logits
from xmlgrpo_rollout.weights import DecoderWeights, LayerWeights, base_model, read_rope

ROWS = 4  # texts: one alone may be rounded by luck
LENGTH = 40  # tokens: more than one of attention's blocks, and not the length that torch misreads
# What two right computations are apart, as a share of the logits' spread: a few times what the
# number type rounds away (every family's random weights in 16 bits: up to twice), and in
# float32 nothing.
ROUNDINGS, FLOOR = 4, 0.002


class _Exact(Sequence[LayerWeights]):
    """Layers with their weights in another number type, each made when it is its turn."""

    def __init__(self, layers: Sequence[LayerWeights], dtype: torch.dtype) -> None:
        self._layers, self._dtype = layers, dtype

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, number: Any) -> Any:
        layer = self._layers[number]
        matrices = ("qkv", "attention_out", "gate_up", "down")
        return replace(
            layer,
            **{name: getattr(layer, name).to(self._dtype) for name in matrices},
            biases={name: bias.to(self._dtype) for name, bias in layer.biases.items()},
        )


def why_not_alike(model: nn.Module, weights: DecoderWeights) -> str | None:
    """Why the engine may not answer for a model: its logits are others; None when they are not.

    What the number type rounds away is measured, by the engine's arithmetic in float32.

    Args:
        model: as it is loaded, bare or with an adapter.
        weights: that the engine has read from it.
    """
    with torch.no_grad():
        found_R_V = exact_R_V = _logits(model, weights)
        if weights.dtype != torch.float32:
            exact = replace(weights, layers=_Exact(weights.layers, torch.float32))
            exact_R_V = _logits(model, exact)
        off = _distance(_own_logits(model, _ids(weights)), exact_R_V)
        noise = _distance(found_R_V, exact_R_V)
    if off <= FLOOR + ROUNDINGS * noise:
        return None
    return (
        f"its logits are not {type(base_model(model)).__name__}'s own (off by {off:.1%} of their "
        f"spread on a few tokens, where rounding is {noise:.1%}): this model computes something "
        "that its configuration does not tell"
    )


def _ids(weights: DecoderWeights) -> Tensor:
    # low ones: a model that also sees has a token for an image, which is one of the last
    device, vocabulary = weights.head.device, weights.head.shape[0]
    ids_R_T = torch.arange(ROWS * LENGTH, device=device).view(ROWS, LENGTH) * 7 + 1
    return ids_R_T % vocabulary


def _distance(found_R_V: Tensor, exact_R_V: Tensor) -> float:
    return float((found_R_V - exact_R_V).square().mean().sqrt() / exact_R_V.std())


def _logits(model: nn.Module, weights: DecoderWeights) -> Tensor:
    """The engine's, (R, V), in float32."""
    ids_R_T = _ids(weights)
    padding_R, places_T = torch.zeros_like(ids_R_T[:, 0]), torch.arange(LENGTH).to(ids_R_T)
    _, attend = prefill(padding_R, LENGTH, weights.recipe)
    rope = read_rope(model, LENGTH)
    return last_logits(weights, rope, ids_R_T, places_T.expand(ROWS, -1), attend).float()


def _own_logits(model: Any, ids_R_T: Tensor) -> Tensor:
    was_training = model.training
    model.eval()
    try:
        of_last = {"use_cache": False, "logits_to_keep": 1}
        logits_R_1_V: Tensor = model(input_ids=ids_R_T, **of_last).logits
    finally:
        model.train(was_training)
    return logits_R_1_V[:, -1].float()
