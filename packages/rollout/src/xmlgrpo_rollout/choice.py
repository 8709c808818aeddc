"""Which engine serves a run, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.engine import Engine
from xmlgrpo_rollout.generate import GenerateEngine
from xmlgrpo_rollout.static import StaticEngine
from xmlgrpo_rollout.vllm import check_vllm
from xmlgrpo_rollout.weights import why_not_read

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
    """

    name: EngineName
    reason: str
    engine: Engine
    trains: bool


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
        raise UserError(f"rollout: expected one of {', '.join(ENGINE_NAMES)}, came {name!r}")
    if not stop_ids:
        raise UserError("rollout: expected at least one stop token, came none")
    stops, pad = list(stop_ids), tokenizer.pad_token_id
    if name == "vllm":
        check_vllm(model.device.type)
        generate = GenerateEngine(model, stops, pad)
        return EngineChoice(
            "vllm", "asked for; held-out replies by generate", generate, trains=False
        )
    obstacle = why_not_read(model)
    if name == "graph" and obstacle:
        raise UserError(
            f"rollout 'graph' cannot serve this model: {obstacle}. Set rollout to 'generate' or "
            "'auto'"
        )
    if name == "graph" or (name == "auto" and obstacle is None and model.device.type == "cpu"):
        reason = "asked for" if name == "graph" else "a Gemma 3 text model on the CPU"
        return EngineChoice("graph", reason, StaticEngine(model, stops, pad), trains=True)
    reason = "asked for" if name == "generate" else obstacle or "graph is chosen on a CPU only"
    return EngineChoice("generate", reason, GenerateEngine(model, stops, pad), trains=True)
