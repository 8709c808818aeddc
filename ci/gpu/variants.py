"""What `end_to_end.py` runs: every backend with 16-bit and 4-bit weights and either engine."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GROUP = 8  # completions of a prompt
MICRO_BATCH = 16  # completions in one forward and backward pass

# The last settings of Unsloth's that decide when it compiles; unset is its own default.
BLOCKS_ONLY = {"UNSLOTH_ENABLE_FLEX_ATTENTION": "0", "UNSLOTH_COMPILE_DISABLE": "0"}
ALL_OF_IT = {"UNSLOTH_ENABLE_FLEX_ATTENTION": "1", "UNSLOTH_COMPILE_DISABLE": "0"}
# what ci/gpu/README.md leaves out of vLLM's wheels must not be looked for
VLLM = {"VLLM_NO_USAGE_STATS": "1", "VLLM_USE_FLASHINFER_SAMPLER": "0"}


@dataclass(frozen=True, slots=True)
class Variant:
    """One run: train, then merge and compare.

    Attributes:
        name: also of the result.
        backend: "plain" or "unsloth".
        quantized: the frozen weights are loaded in 4 bits.
        rollout: "graph", "generate" or "vllm".
        environment: variables of the training process.
        is_extra: runs only when it is named.
    """

    name: str
    backend: str
    quantized: bool
    rollout: str
    environment: dict[str, str] = field(default_factory=dict)
    is_extra: bool = False


VARIANTS = (
    Variant("plain-16-graph", "plain", quantized=False, rollout="graph"),
    Variant("unsloth-16-graph", "unsloth", quantized=False, rollout="graph"),
    Variant("plain-4-graph", "plain", quantized=True, rollout="graph"),
    Variant("unsloth-4-graph", "unsloth", quantized=True, rollout="graph"),
    Variant("plain-16-generate", "plain", quantized=False, rollout="generate"),
    Variant("unsloth-16-generate", "unsloth", quantized=False, rollout="generate"),
    Variant("plain-4-generate", "plain", quantized=True, rollout="generate"),
    Variant("unsloth-4-generate", "unsloth", quantized=True, rollout="generate"),
    Variant("auto-16-auto", "auto", quantized=False, rollout="auto", is_extra=True),
    *(
        Variant(
            f"{backend}-16-vllm",
            backend,
            quantized=False,
            rollout="vllm",
            environment=VLLM,
            is_extra=True,
        )
        for backend in ("plain", "unsloth")
    ),
    Variant(
        "unsloth-16-graph-blocks",
        "unsloth",
        quantized=False,
        rollout="graph",
        environment=BLOCKS_ONLY,
        is_extra=True,
    ),
    Variant(
        "unsloth-16-graph-compiled",
        "unsloth",
        quantized=False,
        rollout="graph",
        environment=ALL_OF_IT,
        is_extra=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Work:
    """How much each run does.

    Attributes:
        steps: of the optimiser.
        prompts: a step; each is answered `GROUP` times.
        completion_tokens: longest completion.
    """

    steps: int
    prompts: int
    completion_tokens: int


def configuration(variant: Variant, model: Path, gsm8k: Path, work: Work) -> dict[str, Any]:
    """The run's YAML, as a mapping.

    The learning rate is ten times our default, so that a few steps leave an adapter that matters.
    """
    rows = work.prompts * GROUP
    return {
        "model": {
            "name": str(model),
            "backend": variant.backend,
            "load_in_4bit": variant.quantized,
        },
        "data": {"source": "json", "path": str(gsm8k), "limit": 256},
        "holdout": {"report_rows": 16, "validation_rows": 8, "every": max(1, work.steps // 2)},
        "rewards": {"correctness_reward_func": 1.0, "token_mix:token_mix": 1.0},
        "rollout": variant.rollout,
        "grpo": {
            "max_steps": work.steps,
            "learning_rate": 1e-4,
            "num_generations": GROUP,
            "per_device_train_batch_size": MICRO_BATCH,
            "gradient_accumulation_steps": max(1, rows // MICRO_BATCH),
            "max_completion_length": work.completion_tokens,
            "save_steps": work.steps,
        },
    }
