"""The cards and models of `limits.py`, the run that is tried on each, and the GPU that is there."""

import shutil
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xmlgrpo_run.files import write_json
from xmlgrpo_trainer.plan.gpus import Gpu, nearest_gpu

GROUP = 8
STEPS = 2


@dataclass(frozen=True, slots=True)
class Case:
    """One card and one model on it.

    Attributes:
        name: also of the result.
        memory_gib: what a program can use of such a card (`plan.gpus`).
        size: of Gemma 3.
        quantized: frozen weights in 4 bits.
    """

    name: str
    memory_gib: float
    size: str
    quantized: bool = False


CASES = (
    Case("16gb-1b", 15.6, "1b"),
    Case("16gb-1b-4bit", 15.6, "1b", quantized=True),
    Case("24gb-1b", 23.5, "1b"),
    Case("24gb-1b-4bit", 23.5, "1b", quantized=True),
    Case("24gb-4b-4bit", 23.5, "4b", quantized=True),
    Case("80gb-1b", 79.2, "1b"),
)
TINY = Case("tiny", 0.0, "tiny")


@dataclass(slots=True)
class Bench:
    """What all cases share.

    Attributes:
        card: the GPU that is there; None: the CPU.
        models: the folder of each size's random model.
        gsm8k: folder of the problems.
        folder: for run folders.
        lengths: of completions, that are tried.
        jobs: cases at a time.
        step_s: longest step, by the plan.
        limit_s: longest process.
        deadline: when all must be over, by `time.monotonic`.
        out: the JSON file.
        found: its contents.
        free_gib: of the card, not given to a running process.
    """

    card: Gpu | None
    models: dict[str, Path]
    gsm8k: Path
    folder: Path
    lengths: tuple[int, ...]
    jobs: int
    step_s: float
    limit_s: float
    deadline: float
    out: Path
    found: dict[str, Any]
    free_gib: float
    room: threading.Condition = field(default_factory=threading.Condition)

    def note(self, name: str, result: dict[str, Any]) -> None:
        """Write what is known."""
        with self.room:
            self.found["cases"][name] = result
            write_json(self.out, self.found)


def configuration(
    case: Case, model: Path, gsm8k: Path, tokens: int, prompts: int
) -> dict[str, Any]:
    """The run's YAML, as a mapping; held-out replies are few and short."""
    return {
        "model": {
            "name": str(model),
            "backend": "plain",
            "load_in_4bit": case.quantized,
        },
        "data": {
            "source": "json",
            "path": str(gsm8k),
            "limit": 256,
            "max_prompt_tokens": 256,
        },
        "holdout": {
            "report_rows": 4,
            "validation_rows": 0,
            "max_new_tokens": 8,
            "batch_size": 4,
        },
        "rewards": {"token_mix:token_mix": 1.0},
        "rollout": "graph",
        "lora": {"r": 16},
        "grpo": {
            "max_steps": STEPS,
            "num_generations": GROUP,
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": prompts * GROUP,
            "gradient_checkpointing": True,
            "max_completion_length": tokens,
            "save_steps": STEPS,
        },
        "watch": {"samples_every": 1000},
    }


def found_card() -> Gpu | None:
    """The first GPU, asked of its driver: torch would keep a context of its own on it."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "-i", "0", "--query-gpu=name,memory.total"]
    ran = subprocess.run(
        [*query, "--format=csv,noheader,nounits"], capture_output=True, text=True, check=False
    )
    if ran.returncode:
        return None
    name, total_mib = ran.stdout.strip().splitlines()[0].rsplit(",", 1)
    total_gib = float(total_mib) / 1024
    like = nearest_gpu(name, total_gib)
    return Gpu(
        name=name,
        memory_gib=min(total_gib, like.memory_gib) if like else total_gib,
        bfloat16=like is None or like.bfloat16,
        tflops=like.tflops if like else None,
        bandwidth_gb_s=like.bandwidth_gb_s if like else None,
        is_measured=like is not None and like.is_measured,
    )
