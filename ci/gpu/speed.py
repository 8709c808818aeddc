"""How long a GRPO step takes at the Gemma 3 1B shape: 8 prompts x 8 completions x 256 tokens.

    python ci/gpu/speed.py --gsm8k folder-with-train.jsonl --out speed.json
    python ci/gpu/speed.py --gsm8k folder --out speed.json --only graph generate

Every variant is `xmlgrpo-train` (`trl`: trl and peft without us) in a process of its own, one after
another, on one model with random weights and the same problems.  Of a random model's 262,144
equally likely tokens two end a completion, so that nearly every one has its full length; the mean
length stands in the result.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from child import run_child
from model_folder import given_or_made
from step_times import steady_step, whole_steps
from variants import ALL_OF_IT
from variants import VLLM as VLLM_ENVIRONMENT

from xmlgrpo_rewards.errors import run_command
from xmlgrpo_run.files import write_json
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.metrics import read_log

HERE = Path(__file__).resolve().parent
PROMPTS, GROUP = 8, 8


@dataclass(frozen=True, slots=True)
class Variant:
    """One configuration.

    Attributes:
        name: also of the result.
        rollout, backend: of the configuration.
        micro_batch: completions in one forward and backward pass.
        grpo: more of its fields.
        steps: how many.
        environment: variables of the process.
        quantized: frozen weights in 4 bits.
        alone: trl and peft train it without us; see `trl_alone.py`.
    """

    name: str
    rollout: str
    backend: str = "plain"
    micro_batch: int = 64
    grpo: dict[str, Any] = field(default_factory=dict)
    steps: int = 10
    environment: dict[str, str] = field(default_factory=dict)
    quantized: bool = False
    alone: bool = False


WHOLE = {"gradient_checkpointing": False}  # fits in 80 GB
UNCORRECTED = {"vllm_importance_sampling_correction": False}
# Weights, captured graphs and the keys and values of 64 texts need some 6 GB.
VLLM = {"vllm_gpu_memory_utilization": 0.15}
VARIANTS = (
    Variant("graph", "graph", grpo=WHOLE),
    Variant("graph-uncorrected", "graph", grpo=WHOLE | UNCORRECTED),
    Variant("generate", "generate", grpo=WHOLE, steps=7),
    Variant("trl", "generate", grpo=WHOLE, steps=7, alone=True),
    Variant("vllm", "vllm", grpo=WHOLE | VLLM, environment=VLLM_ENVIRONMENT),
    Variant("graph-micro-16-checkpointed", "graph", micro_batch=16),
    Variant("graph-4bit", "graph", grpo=WHOLE, quantized=True),
    Variant("unsloth-graph", "graph", backend="unsloth", micro_batch=32, steps=7),
    Variant("unsloth-generate", "generate", backend="unsloth", micro_batch=32, steps=7),
    Variant(
        "unsloth-defaults",
        "generate",
        backend="unsloth",
        micro_batch=32,
        steps=8,
        environment=ALL_OF_IT,
    ),
)


@dataclass(frozen=True, slots=True)
class Work:
    """What a step does.

    Attributes:
        tokens: limit of a completion.
        prompts: each is answered `GROUP` times.
    """

    tokens: int
    prompts: int = PROMPTS


def configuration(variant: Variant, model: Path, gsm8k: Path, work: Work) -> dict[str, Any]:
    """The run's YAML, as a mapping; held-out questions are few and short, they are not timed."""
    return {
        "model": {
            "name": str(model),
            "backend": variant.backend,
            "load_in_4bit": variant.quantized,
        },
        "data": {"source": "json", "path": str(gsm8k), "limit": 256},
        "holdout": {"report_rows": 4, "validation_rows": 0, "max_new_tokens": 8},
        "rewards": {"token_mix:token_mix": 1.0},
        "rollout": variant.rollout,
        "grpo": {
            "max_steps": variant.steps,
            "num_generations": GROUP,
            "per_device_train_batch_size": variant.micro_batch,
            "gradient_accumulation_steps": work.prompts * GROUP // variant.micro_batch,
            "max_completion_length": work.tokens,
            "save_steps": variant.steps,
            **variant.grpo,
        },
        "watch": {"samples_every": 1000},
    }


def measure(
    variant: Variant, model: Path, gsm8k: Path, folder: Path, *, work: Work, limit_s: float
) -> dict[str, Any]:
    """Train one variant; what it took."""
    place = folder / variant.name
    place.mkdir()
    config, memory, run = place / "config.yaml", place / "memory.json", RunFolder(place / "run")
    config.write_text(yaml.safe_dump(configuration(variant, model, gsm8k, work)))
    command = ["--config", str(config), "--run", str(run.root)]
    if variant.alone:
        script = [str(HERE / "trl_alone.py"), "--memory", str(memory), *command]
    else:
        script = [str(HERE / "measured.py"), str(memory), "xmlgrpo-train", *command]
    ended = run_child(
        script,
        cwd=place,
        environment=variant.environment,
        limit_s=limit_s,
    )
    rows = [row for row in read_log(run.metrics).rows.values() if "loss" in row]
    steady_s = steady_step(rows)
    last = rows[-1] if rows else {}
    return {
        "exit_code": ended["exit_code"],
        "ending": ended["ending"],
        "whole_run_s": ended["seconds"],
        "step_s": None if steady_s is None else round(steady_s, 3),
        "step_s_all": [round(value, 3) for value in whole_steps(rows)],
        "mean_tokens": last.get("completions/mean_length"),
        "mismatch": {name: value for name, value in last.items() if name.startswith("sampling/")},
        "memory": json.loads(memory.read_text()) if memory.is_file() else None,
        "versions": run.read_manifest()["versions"] if run.manifest.is_file() else None,
        "hardware": run.read_manifest()["hardware"] if run.manifest.is_file() else None,
        "last_lines": [] if ended["exit_code"] == 0 else ended["last_lines"][-15:],
    }


def line(name: str, result: dict[str, Any]) -> str:
    """A result for people; the last words of one that failed."""
    peak = (result["memory"] or {}).get("allocated_gib")
    told = (
        f"{name:28} {result['ending']:14} step {result['step_s']} s  {result['step_s_all']}  "
        f"{result['mean_tokens']} tokens  peak {peak} GiB"
    )
    return "\n".join([told, *result["last_lines"]])


def main() -> int:
    """Measure what was asked for, write after each, print a line for each."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--gsm8k", type=Path, required=True, help="folder with train.jsonl")
    made.add_argument("--out", type=Path, required=True, help="the JSON file of the results")
    made.add_argument("--size", default="1b", help="see random_model.py; default: 1b")
    made.add_argument("--model", type=Path, help="use this model folder instead of making one")
    made.add_argument("--tokens", type=int, default=256, help="of a completion")
    made.add_argument("--only", nargs="+", choices=[v.name for v in VARIANTS], metavar="NAME")
    made.add_argument("--limit-s", type=float, default=600, help="longest run")
    asked = made.parse_args()
    variants = [v for v in VARIANTS if asked.only is None or v.name in asked.only]
    found: dict[str, Any] = {
        "size": asked.size,
        "prompts": PROMPTS,
        "completions_each": GROUP,
        "tokens": asked.tokens,
        "variants": {},
    }
    with tempfile.TemporaryDirectory(prefix="speed-") as scratch:
        folder, gsm8k = Path(scratch), asked.gsm8k.resolve()
        model = given_or_made(asked.model, asked.size, gsm8k, folder, asked.limit_s)
        for variant in variants:
            result = measure(
                variant,
                model,
                gsm8k,
                folder,
                work=Work(asked.tokens),
                limit_s=asked.limit_s,
            )
            found["variants"][variant.name] = result
            write_json(asked.out, found)
            print(line(variant.name, result), flush=True)
    return int(any(result["exit_code"] for result in found["variants"].values()))


if __name__ == "__main__":
    run_command(main)
