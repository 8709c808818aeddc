"""A packed row's hidden states by the engine's own forward pass, over the weights that draw.

transformers and peft start hundreds of kernels for a layer's forward and backward pass, one by one
from Python: a small model's step waits for that.  The engine's forward pass has queries, keys and
values in one product, gate and up in another, and on a GPU one kernel for what lies between
(`layer_kernels`).  Its weights are merged ones, so what is trained is what draws, what is measured
and what is kept: see `joint_product`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.cpu.cache import Attend
from xmlgrpo_rollout.forward import Operations, Product, after_layer, embedded, turns_at
from xmlgrpo_rollout.int8 import linear
from xmlgrpo_rollout.recipe import SLIDING
from xmlgrpo_rollout.weights import (
    DecoderWeights,
    Rope,
    base_model,
    read_rope,
    text_decoder,
)
from xmlgrpo_trainer.grpo.packed_step.attention import mixed_values
from xmlgrpo_trainer.grpo.packed_step.joint_product import (
    Adapter,
    JointAdapters,
    JointProduct,
    join,
    renew,
)
from xmlgrpo_trainer.grpo.packed_step.layout import Layout

PLACES_MULTIPLE = 256  # the rotary tables are made for so many more places than were needed


class Merging(Protocol):
    """An engine that holds merged weights, as both of `graph` do."""

    weights: DecoderWeights

    def refresh(self) -> None:
        """See `Engine`."""


class MergedPass:
    """Computes hidden states with the weights of a run's engine.

    Args:
        trainer: trl's `GRPOTrainer`, whose model is a policy with a LoRA adapter.
        engine: of that model.
        draws: it is what draws the completions, so that each rollout makes its weights fresh.

    Raises:
        UserError: the adapter is not plain LoRA.
    """

    def __init__(self, trainer: Any, engine: Merging, *, draws: bool) -> None:
        self._model, self._arguments, self._engine = trainer.model, trainer.args, engine
        self._updates: Callable[[], int] = lambda: trainer.state.global_step
        self._adapters = _read_adapters(trainer.model, engine.weights)
        self._active = list(trainer.model.active_adapters)
        uses = trainer.args.steps_per_generation * trainer.args.num_iterations
        # then an update follows each rollout
        is_used_once = trainer.args.gradient_accumulation_steps % uses == 0
        self._is_fresh_by_rollout = is_used_once and draws
        self._step: int | None = None
        self._rope: tuple[int, Rope] = (0, {})

    def __call__(self, packed: Layout) -> Tensor | None:
        """The hidden states after the last norm, (N, hidden); None while the adapter is off.

        A reference is the model without its adapter, or with another one.
        """
        first: Any = next(module for module in self._model.modules() if hasattr(module, "lora_A"))
        if first.disable_adapters or first.merged or first.active_adapters != self._active:
            return None
        self._renew()
        weights: DecoderWeights = self._engine.weights
        recipe, config = weights.recipe, text_decoder(base_model(self._model)).config
        is_checkpointed = self._arguments.gradient_checkpointing and torch.is_grad_enabled()
        with torch.no_grad():
            hidden_1_N_C = embedded(weights, packed.tokens[None])
            turns = turns_at(self._tables(packed.visible.most_keys), packed.places[None])

        def attend(_number: int, kind: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            of_heads = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
            window = recipe.window if kind == SLIDING else None
            mixed_1_N_H_D = mixed_values(config, packed, of_heads, window, recipe.score_factor)
            return mixed_1_N_H_D.flatten(2)

        does = _operations(attend, partial(self._product, weights), on_gpu=hidden_1_N_C.is_cuda)
        for number in range(len(weights.layers)):
            if is_checkpointed:
                hidden_1_N_C = checkpoint(
                    *(after_layer, weights, number, hidden_1_N_C, turns, does),
                    use_reentrant=False,
                    preserve_rng_state=False,  # nothing is drawn in a layer
                )
            else:
                hidden_1_N_C = after_layer(weights, number, hidden_1_N_C, turns, does)
        return does.norm(recipe, hidden_1_N_C[0], weights.final_norm)

    def _product(self, weights: DecoderWeights, number: int, name: str, values: Tensor) -> Tensor:
        layer, adapters = weights.layers[number], self._adapters.get((number, name))
        matrix, bias = getattr(layer, name), layer.biases.get(name)
        if adapters is None:
            return linear(values, matrix, bias)
        product: Tensor = JointProduct.apply(  # type: ignore[no-untyped-call]  # torch's own gap
            values, matrix, bias, adapters, *adapters.trained
        )
        return product

    def _renew(self) -> None:
        """Take over what the last update has changed."""
        step = self._updates()
        if step != self._step:
            if not self._is_fresh_by_rollout:
                self._engine.refresh()
            renew(list(self._adapters.values()))
            self._step = step

    def _tables(self, places: int) -> Rope:
        made, rope = self._rope
        if places > made:
            made = -(-places // PLACES_MULTIPLE) * PLACES_MULTIPLE
            rope = read_rope(self._model, made)
            self._rope = made, rope
        return rope


def _operations(attend: Attend, product: Product, *, on_gpu: bool) -> Operations:
    if not on_gpu:
        return Operations(attend, product)
    from xmlgrpo_trainer.grpo.packed_step.layer_kernels import gated, normed, rotated

    return Operations(attend, product, norm=normed, rotate=rotated, gate=gated)


def _read_adapters(model: Any, weights: DecoderWeights) -> dict[tuple[int, str], JointAdapters]:
    """By layer and projection, those that there are."""
    found: dict[tuple[int, str], JointAdapters] = {}
    for number, layer in enumerate(text_decoder(base_model(model)).layers):
        for field, names in weights.recipe.projections.items():
            members, at = [], 0
            for name in names:
                module = layer.get_submodule(name)
                rows = slice(at, at + module.out_features)
                at = rows.stop
                if hasattr(module, "lora_A"):
                    members.append(_adapter(module, rows))
            if members:
                found[number, field] = join(members, at, weights.dtype)
    known = {id(part) for adapters in found.values() for part in adapters.trained}
    others = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in known]
    if others:
        raise UserError(
            "merged_pass: expected that only adapters of the layers' projections are trained, got "
            f"{others[0]}; set merged_pass to false"
        )
    return found


def _adapter(module: Any, rows: slice) -> Adapter:
    [name, *more] = module.active_adapters
    if more or not isinstance(module.lora_dropout[name], nn.Identity):
        raise UserError(
            "merged_pass: expected one adapter without dropout, since merged weights have none; "
            "set lora.lora_dropout to 0, or merged_pass to false"
        )
    return Adapter(
        rows, module.lora_A[name].weight, module.lora_B[name].weight, module.scaling[name]
    )
