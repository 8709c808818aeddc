"""The reference is the base: what a run takes for the base model has to be it.

With `grpo.beta` above 0 trl's reference is the model with its adapter switched off, and every run's
result is a difference from a baseline, which is measured with the fresh adapter on.  Both are the
base only where the adapter begins as no change and leaves the frozen weights alone.  What is known
to do otherwise is refused by name; `check_start` looks at the model itself, for what nobody knows.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.weights import base_model

PROBE = "Tom has 3 apples and buys 4 more. How many has he now?"


@dataclass(frozen=True, slots=True)
class Probe:
    """A few tokens, and the logits of the base model as it was loaded."""

    ids: Tensor  # (1, T)
    logits: Tensor  # (T, V), float32


def probe(model: Any, tokenizer: Any) -> Probe:
    """Ask a model that no adapter has been attached to."""
    ids_1_T = torch.tensor([tokenizer(PROBE)["input_ids"]], device=model.device)
    return Probe(ids_1_T, _logits(model, ids_1_T))


def check_start(model: Any, base: Probe, beta: float) -> None:
    """Compare a model and its fresh adapter with the base.

    Args:
        model: of peft, before the first step.

    Raises:
        UserError: the adapter changes what the model says, or `beta` is above 0 and without the
            adapter it is not the base, or would not stay it; the model cannot run with it.
    """
    check_frozen(model, beta)
    limit = torch.finfo(model.dtype).eps ** 0.5  # rounding is far below, an adapter far above
    if beta > 0 and (off := _without_adapter(model, base)) > limit:
        raise UserError(
            f"grpo.beta is {beta:g}, but with its adapter switched off the model is not the base "
            f"that the KL term means (its logits are off by {off:.1%} of their spread): these "
            "settings of lora: change the frozen weights; leave them out, or set grpo.beta=0"
        )
    if (on := _distance(model, base)) > limit:
        raise UserError(
            "lora: with these settings the adapter changes the model before the first step (its "
            f"logits are off by {on:.1%} of their spread), so what is measured as 'before' would "
            "not be the base; leave out the settings that decide how the adapter begins"
        )


def check_frozen(model: Any, beta: float) -> None:
    """See that training leaves alone what is there without the adapter, where trl compares with it.

    Args:
        model: of peft; its weights are not looked at.

    Raises:
        UserError: weights of the base are trained, such as biases.
    """
    trained = (
        name
        for name, weight in model.named_parameters()
        if weight.requires_grad and "lora_" not in name
    )
    if beta > 0 and (name := next(trained, None)):
        raise UserError(
            f"grpo.beta is {beta:g}, but weights of the base are trained "
            f"({name.removeprefix('base_model.model.')}), and with them the reference of the KL "
            "term would move; set lora.bias=none, or grpo.beta=0"
        )


@torch.no_grad()
def check_head(model: Any, base: Probe) -> None:
    """See that the model's logits are what trl takes for them where it holds no whole logits.

    trl multiplies the last hidden state by the head, and knows a factor and a cap of the logits by
    the names that most configurations have.  A factor that stands there otherwise, as Granite's
    does, is written down for it.

    Args:
        model: of transformers or peft, before the first step; its configuration is changed.

    Raises:
        UserError: the logits are something else.
    """
    inner = base_model(model)
    config, was_training = inner.config.get_text_config(), model.training
    if divisor := getattr(config, "logits_scaling", None):
        config.logit_scale = 1 / divisor
    model.eval()
    try:
        hidden_T_C = inner.base_model(input_ids=base.ids, use_cache=False).last_hidden_state[0]
    finally:
        model.train(was_training)
    logits_T_V = inner.get_output_embeddings()(hidden_T_C).float()
    logits_T_V *= getattr(config, "logit_scale", None) or 1.0
    if cap := getattr(config, "final_logit_softcapping", None):
        logits_T_V = (logits_T_V / cap).tanh() * cap
    off = float((logits_T_V - base.logits).square().mean().sqrt() / base.logits.std())
    if not off <= torch.finfo(model.dtype).eps ** 0.5:
        raise UserError(
            f"{type(inner).__name__}: its logits are more than its head's product (off by "
            f"{off:.1%} of their spread), which trl takes for them: it would learn by other "
            "probabilities. Set grpo.use_liger_kernel=false and model.dtype=float32"
        )


def _without_adapter(model: Any, base: Probe) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of trained biases, which `check_frozen` has looked for
        with model.disable_adapter():
            return _distance(model, base)


def _distance(model: Any, base: Probe) -> float:
    """Root mean square of what the logits are off, as a share of the base's standard deviation."""
    try:
        off_T_V = _logits(model, base.ids) - base.logits
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(f"lora: the model cannot run with these settings: {error!r}") from error
    return float(off_T_V.square().mean().sqrt() / base.logits.std())


@torch.no_grad()
def _logits(model: Any, ids_1_T: Tensor) -> Tensor:
    was_training = model.training
    model.eval()  # dropout would be a difference
    try:
        logits_1_T_V: Tensor = model(input_ids=ids_1_T, use_cache=False).logits
    finally:
        model.train(was_training)
    return logits_1_T_V[0].float()
