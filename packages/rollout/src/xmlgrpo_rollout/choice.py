"""The engine that serves a loaded model, and why."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.cpu.engine import StaticEngine
from xmlgrpo_rollout.engine import Engine, Sampling
from xmlgrpo_rollout.generate import GenerateEngine
from xmlgrpo_rollout.self_check import why_not_alike
from xmlgrpo_rollout.vllm import check_vllm
from xmlgrpo_rollout.weights import (
    base_model,
    has_packed_weights,
    is_plain_lora,
    is_unpackable,
    text_decoder,
)
from xmlgrpo_rollout.which_engine import (
    READABLE,
    EngineName,
    joined_reasons,
    name_engine,
    not_readable,
    why_not_described,
    why_not_merged,
)
from xmlgrpo_run.checkout import is_installed

if TYPE_CHECKING:
    from xmlgrpo_rollout.gpu.engine import GraphEngine


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine of a run.

    Attributes:
        name: which one it is.
        reason: why, in a few words for the run's first lines.
        engine: answers prompts outside of training, and in it where `trains` is true.
        trains: false where trl draws the training completions itself (vLLM).
        rounds: whether the log-probabilities of what draws in training differ from the policy's by
            more than float32's rounding, since it merges the adapter into fewer bits.
        in_8_bits: draws in training in the place of `engine`, which holds what will be kept.
    """

    name: EngineName
    reason: str
    engine: Engine
    trains: bool
    rounds: bool = False
    in_8_bits: Engine | None = None

    @property
    def drawing(self) -> Engine:
        """What draws the training completions, where `trains` is true."""
        return self.in_8_bits or self.engine

    @property
    def drew(self) -> str:
        """What draws the training completions, as a finished run names it."""
        return f"{self.name}, int8 weights" if self.in_8_bits else self.name


def choose_engine(
    name: str, model: Any, tokenizer: Any, stop_ids: Sequence[int], *, int8: bool = False
) -> EngineChoice:
    """Make the engine for a model.

    Args:
        name: "auto", or the engine that is asked for.
        model: the policy, with its adapter if it has one.
        tokenizer: for the padding token.
        int8: training draws with weights in 8 bits.

    Raises:
        UserError: no such engine, or it cannot serve this model on this machine.
    """
    on_gpu = model.device.type == "cuda"
    obstacle = joined_reasons(why_not_read(model), why_not_captured() if on_gpu else None)
    packed = obstacle is None and has_packed_weights(model)
    chosen, reason = name_engine(name, obstacle, packed=packed, on_gpu=on_gpu, int8=int8)
    if not stop_ids:
        raise UserError("rollout: expected at least one stop token, got none")
    if chosen == "vllm":
        check_vllm(model.device.type)
    stops, pad = list(stop_ids), tokenizer.pad_token_id
    if chosen == "graph":
        engine = _graph_engine(model, stops, pad)
        obstacle = why_not_alike(model, engine.weights)
        if obstacle is None and on_gpu:
            obstacle = why_not_compiled(engine, pad)
        if obstacle is None:
            rounds = on_gpu and engine.weights.dtype.itemsize < torch.float32.itemsize
            plain = EngineChoice("graph", reason, engine, trains=True, rounds=rounds)
            return _with_8_bits(plain, model, stops, pad) if int8 else plain
        chosen, reason = name_engine(name, obstacle, packed=packed, on_gpu=on_gpu, int8=int8)
    generate = GenerateEngine(model, stops, pad)
    return EngineChoice(chosen, reason, generate, trains=chosen != "vllm")


def _graph_engine(
    model: Any, stops: list[int], pad: int, *, int8: bool = False
) -> "StaticEngine | GraphEngine":
    if model.device.type != "cuda":
        return StaticEngine(model, stops, pad, int8=int8)
    from xmlgrpo_rollout.gpu.engine import GraphEngine  # Triton is not there on every machine

    return GraphEngine(model, stops, pad, int8=int8)


def _with_8_bits(choice: EngineChoice, model: Any, stops: list[int], pad: int) -> EngineChoice:
    engine = _graph_engine(model, stops, pad, int8=True)
    if model.device.type == "cuda" and (obstacle := why_not_compiled(engine, pad)):
        raise UserError(f"rollout_weights 'int8': {obstacle}; leave it out")
    reason = f"{choice.reason}; with int8 weights in training"
    return replace(choice, reason=reason, rounds=True, in_8_bits=engine)


def why_not_compiled(engine: Engine, token: int) -> str | None:
    """Why an engine's kernels cannot be compiled for the GPU that is there; None when they can.

    They are compiled when they are first called: here, before anything is asked or trained.

    Args:
        token: any one, to ask it for two more.
    """
    try:
        engine([[token]], 1, Sampling(max_new_tokens=2, temperature=0.0))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - Triton, a C compiler, a driver: each has its own
        said = str(error).strip().splitlines() or ["no word"]
        return f"Triton could not compile it for this GPU ({type(error).__name__}: {said[0]})"
    return None


def why_not_captured() -> str | None:
    """Why the GPU form of the `graph` engine cannot run here; None when it can."""
    if not is_installed("triton"):
        return "on a GPU it needs Triton, which comes with torch's CUDA builds for Linux"
    return None


def why_not_read(model: nn.Module) -> str | None:
    """Why `weights.read_weights` cannot read a model, in words for the user; None when it can."""
    base = base_model(model)
    if type(base).__name__ not in READABLE.values():
        return not_readable(type(base).__name__)
    adapters: dict[str, Any] = getattr(model, "peft_config", {})
    merged = map(why_not_merged, map(vars, adapters.values()))
    # an adapter's configuration may reach modules that only the model shows
    return joined_reasons(why_not_described(base.config.to_dict()), *merged) or _first_reason(base)


def _first_reason(base: Any) -> str | None:
    modules = {**dict(text_decoder(base).named_modules()), "lm_head": base.lm_head}
    reasons = (_why_not_merged(name, module) for name, module in modules.items())
    return next((reason for reason in reasons if reason is not None), None)


def _why_not_merged(name: str, module: Any) -> str | None:
    if type(module).__name__ == "ModulesToSaveWrapper":
        return f"{name} is trained in full beside the adapter (modules_to_save)"
    linear = getattr(module, "base_layer", module)
    if isinstance(linear, nn.Linear) and not is_unpackable(linear.weight):
        return f"{name} is quantized in a way it does not know"
    if linear is module:
        return None
    if name == "lm_head":
        return "lm_head has an adapter, which the embedding that it is tied to has not"
    if is_plain_lora(module):
        return None
    return f"it merges plain LoRA only, and {name} has another adapter"
