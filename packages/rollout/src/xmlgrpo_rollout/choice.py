"""Which engine serves a run, and why."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.cpu.engine import StaticEngine
from xmlgrpo_rollout.engine import Engine
from xmlgrpo_rollout.generate import GenerateEngine
from xmlgrpo_rollout.vllm import check_vllm
from xmlgrpo_rollout.weights import has_packed_weights, why_not_read

EngineName = Literal["generate", "graph", "vllm"]
ENGINE_NAMES = ("auto", "generate", "graph", "vllm")


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine of a run.

    Attributes:
        name: which one it is.
        reason: why, in a few words for the run's first lines.
        engine: answers prompts outside of training, and in it where `trains` is true.
        trains: false where trl draws the training completions itself (vLLM).
        rounds: whether its log-probabilities differ from the policy's by more than float32's
            rounding, since it merges the adapter into 16-bit weights.
    """

    name: EngineName
    reason: str
    engine: Engine
    trains: bool
    rounds: bool = False


def choose_engine(name: str, model: Any, tokenizer: Any, stop_ids: Sequence[int]) -> EngineChoice:
    """Find the engine for a model.

    Args:
        name: "auto", or the engine that is asked for.
        model: the policy, with its adapter if it has one.
        tokenizer: for the padding token.
        stop_ids: the tokens that end a completion.

    Raises:
        UserError: no such engine, or it cannot serve this model on this machine.
    """
    if name not in ENGINE_NAMES:
        raise UserError(f"rollout: expected one of {', '.join(ENGINE_NAMES)}, got {name!r}")
    if not stop_ids:
        raise UserError("rollout: expected at least one stop token, got none")
    stops, pad = list(stop_ids), tokenizer.pad_token_id
    if name == "vllm":
        check_vllm(model.device.type)
        generate = GenerateEngine(model, stops, pad)
        return EngineChoice(
            "vllm", "asked for; held-out replies by generate", generate, trains=False
        )
    on_gpu = model.device.type == "cuda"
    obstacle = why_not_read(model) or (why_not_captured() if on_gpu else None)
    if name == "graph" and obstacle:
        raise UserError(
            f"rollout 'graph' cannot serve this model: {obstacle}. Set rollout to 'generate' or "
            "'auto'"
        )
    if name == "auto" and obstacle is None and has_packed_weights(model):
        obstacle = "graph would hold a 16-bit copy of the 4-bit weights; ask for it if that fits"
    if name == "generate" or obstacle:
        reason = "asked for" if name == "generate" else str(obstacle)
        return EngineChoice("generate", reason, GenerateEngine(model, stops, pad), trains=True)
    reason = "asked for" if name == "graph" else f"a Gemma 3 on the {'GPU' if on_gpu else 'CPU'}"
    if not on_gpu:
        return EngineChoice("graph", reason, StaticEngine(model, stops, pad), trains=True)
    from xmlgrpo_rollout.gpu.engine import GraphEngine  # Triton is not there on every machine

    engine = GraphEngine(model, stops, pad)
    return EngineChoice("graph", reason, engine, trains=True, rounds=engine.rounds)


def why_not_captured() -> str | None:
    """Why the GPU form of the `graph` engine cannot run here; None when it can."""
    if importlib.util.find_spec("triton") is None:
        return "on a GPU it needs Triton, which comes with torch's CUDA builds for Linux"
    return None
