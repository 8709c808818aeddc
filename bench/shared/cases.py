"""What `steps.py`, `backends.py` and `scaling.py` train: changes to a common configuration."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

GROUP = 8  # completions per prompt
PARTS = ("rollout", "training", "synchronisation", "host")  # of a step's seconds
PASS_TOKENS = 64 * 256  # completion tokens of a backward pass in `growth`
# Unsloth's last settings that decide when it compiles; unset is its own default.
ALL_COMPILED = {"UNSLOTH_ENABLE_FLEX_ATTENTION": "1", "UNSLOTH_COMPILE_DISABLE": "0"}
VLLM = {"VLLM_NO_USAGE_STATS": "1", "VLLM_USE_FLASHINFER_SAMPLER": "0"}


@dataclass(frozen=True, slots=True)
class Case:
    """One configuration.

    Attributes:
        name: also of the result.
        changes: dotted keys of the configuration.
        prompts: a step; each is answered `GROUP` times.
        environment: variables of the process.
        size: of Gemma 3, where it is another than the command line's.
        card_gib: the GPU is capped at what a program can use of such a card, and completions are
            as long as the plan says fits.
        alone: trl and peft train it without us (`trl_alone.py`).
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    prompts: int = 8
    environment: dict[str, str] = field(default_factory=dict)
    size: str | None = None
    card_gib: float | None = None
    alone: bool = False


def configuration(case: Case, model: Path, gsm8k: Path) -> dict[str, Any]:
    """The run's YAML, as a mapping: 64 completions of 256 tokens, few and short held-out ones."""
    raw: dict[str, Any] = {
        "model": {"name": str(model), "backend": "plain"},
        "data": {"source": "json", "path": str(gsm8k), "limit": 256},
        "holdout": {"report_rows": 4, "validation_rows": 0, "max_new_tokens": 8},
        "rewards": {"bench.training.token_mix:token_mix": 1.0},
        "rollout": "graph",
        "grpo": {
            "max_steps": 10,
            "num_generations": GROUP,
            "per_device_train_batch_size": 64,
            "max_completion_length": 256,
            "gradient_checkpointing": False,  # fits in 80 GB
        },
        "watch": {"samples_every": 1000},
    }
    for key, value in case.changes.items():
        *parents, last = key.split(".", 1)
        (raw[parents[0]] if parents else raw)[last] = value
    grpo = raw["grpo"]
    grpo["gradient_accumulation_steps"] = max(
        1, case.prompts * GROUP // grpo["per_device_train_batch_size"]
    )
    grpo["save_steps"] = grpo["max_steps"]
    return raw


def unsloth(rollout: str) -> dict[str, Any]:
    """Unsloth checkpoints by itself, and takes half of the rows at once."""
    rows = {"grpo.per_device_train_batch_size": 32, "grpo.max_steps": 7}
    return {"model.backend": "unsloth", "rollout": rollout, **rows}


def grown(completions: int, tokens: int) -> Case:
    """A step of another size; a backward pass has as many tokens as 64 completions of 256."""
    rows = min(completions, max(1, PASS_TOKENS // tokens))
    changes = {"grpo.max_completion_length": tokens, "grpo.per_device_train_batch_size": rows}
    return Case(f"{completions}x{tokens}", changes | {"grpo.max_steps": 6}, completions // GROUP)


def on_card(name: str, card_gib: float, size: str, *, quantized: bool = False) -> Case:
    """Two steps with the longest completions that the plan says fit the card."""
    changes: dict[str, Any] = {
        "model.load_in_4bit": quantized,
        "data.max_prompt_tokens": 256,
        "holdout.batch_size": 4,
        "grpo.max_steps": 2,
        "grpo.per_device_train_batch_size": 1,
        "grpo.gradient_checkpointing": True,
    }
    return Case(name, changes, size=size, card_gib=card_gib)


SPEED = (
    Case("graph"),
    Case("graph-uncorrected", {"grpo.vllm_importance_sampling_correction": False}),
    Case("generate", {"rollout": "generate", "grpo.max_steps": 7}),
    Case("trl", {"rollout": "generate", "grpo.max_steps": 7}, alone=True),
    # weights, captured graphs and the keys and values of 64 texts need some 6 GB
    Case("vllm", {"rollout": "vllm", "grpo.vllm_gpu_memory_utilization": 0.15}, environment=VLLM),
    Case("graph-4bit", {"model.load_in_4bit": True}),
    Case("unsloth-graph", unsloth("graph")),
    Case("unsloth-generate", unsloth("generate")),
    Case("unsloth-defaults", unsloth("generate"), environment=ALL_COMPILED),
)
GROWTH = (
    *(grown(completions, 256) for completions in (16, 64, 256, 1024)),
    *(grown(64, tokens) for tokens in (512, 1024, 2048, 4096)),
)
CARDS = (
    on_card("16gb-1b", 15.6, "1b"),
    on_card("16gb-1b-4bit", 15.6, "1b", quantized=True),
    on_card("24gb-1b", 23.5, "1b"),
    on_card("24gb-1b-4bit", 23.5, "1b", quantized=True),
    on_card("24gb-4b-4bit", 23.5, "4b", quantized=True),
    on_card("80gb-1b", 79.2, "1b"),
)
PACKED, ONCE, NORMS = {"packed_rows": True}, {"fetch_once": True}, {"frozen_norms": True}
MERGED = {"merged_pass": True}
LARGE = {"grpo.max_steps": 6}  # 64 prompts in micro-batches of 64 completions
TWO_PASSES = {"grpo.per_device_train_batch_size": 256}  # for which packing makes room
# as a T4 would: its step takes seconds
WITHOUT_BFLOAT16 = {"model.dtype": "float32", "rollout": "generate", "grpo.max_steps": 4} | PACKED
# What is off until it is measured: all off, each alone, and together, with the norms of either
# pass; `before` stands at both ends, to see what a machine does by itself.
SWITCHES = (
    Case("before"),
    Case("packed", PACKED),
    Case("once", ONCE),
    Case("norms", NORMS),
    Case("after", PACKED | ONCE | NORMS),
    Case("merged", PACKED | ONCE | MERGED),
    Case("before-64-prompts", LARGE, prompts=64),
    Case("after-64-prompts", LARGE | PACKED | ONCE | NORMS, prompts=64),
    Case("merged-64-prompts", LARGE | PACKED | ONCE | MERGED, prompts=64),
    Case("merged-in-two-passes", LARGE | PACKED | ONCE | MERGED | TWO_PASSES, prompts=64),
    Case("before-again"),
    Case("float32", WITHOUT_BFLOAT16),
    Case("float16-products", WITHOUT_BFLOAT16 | {"model.float16_products": True}),
)
SETS = {"speed": SPEED, "growth": GROWTH, "cards": CARDS, "switches": SWITCHES}


def backend(name: str, backend: str, rollout: str, *, bits: int = 16, **more: Any) -> Case:
    """One way to train and merge; ten times our learning rate, so that few steps matter."""
    changes = {
        "model.backend": backend,
        "model.load_in_4bit": bits == 4,
        "rollout": rollout,
        "holdout.report_rows": 16,
        "rewards": {"correctness_reward_func": 1.0, "bench.training.token_mix:token_mix": 1.0},
        "grpo.learning_rate": 1e-4,
        "grpo.per_device_train_batch_size": 16,
        "grpo.max_steps": 4,
        "grpo.max_completion_length": 64,
    }
    return Case(name, changes, **more)


BACKENDS = tuple(
    backend(f"{name}-{bits}-{rollout}", name, rollout, bits=bits)
    for rollout in ("graph", "generate")
    for bits in (16, 4)
    for name in ("plain", "unsloth")
)
MORE_BACKENDS = (  # run only when they are named
    backend("plain-16-vllm", "plain", "vllm", environment=VLLM),
    backend("unsloth-16-vllm", "unsloth", "vllm", environment=VLLM),
)


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """One measurement: a model, the prompts of a step on all GPUs together, and the GPUs."""

    size: str
    prompts: int
    gpus: int

    def stands_in(self, results: list[dict[str, Any]]) -> bool:
        """Whether it has been measured."""
        return any(asdict(self).items() <= result.items() for result in results)


def points(sizes: list[str], prompts: list[int], gpus: list[int]) -> list[Point]:
    """What strong and weak scaling need, each once, in the order of their cost."""
    strong = {Point(size, batch, n) for size in sizes for batch in prompts for n in gpus}
    weak = {Point(size, batch * n, n) for size in sizes for batch in prompts for n in gpus}
    return sorted(strong | weak, key=lambda at: (sizes.index(at.size), at.prompts / at.gpus, at))
