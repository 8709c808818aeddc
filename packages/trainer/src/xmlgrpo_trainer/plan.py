"""`xmlgrpo-plan`: tokens, steps, memory and time of a run, before any weight is loaded."""

import argparse
import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmlgrpo_rewards.errors import UserError, run_command

if TYPE_CHECKING:
    from rich.console import Console

    from xmlgrpo_trainer.advice import Change
    from xmlgrpo_trainer.config import RunConfig
    from xmlgrpo_trainer.gpus import Gpu
    from xmlgrpo_trainer.memory import Load, Peak
    from xmlgrpo_trainer.pace import Pace
    from xmlgrpo_trainer.shapes import ModelShape
    from xmlgrpo_trainer.sizing import Schedule

EXIT_DOES_NOT_FIT = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do and need.

    Attributes:
        gpu: the GPU it is planned for; None for the CPU.
        room_gib: that GPU's memory, or the machine's.
        fits: whether the estimate is within it.
        changes: what would make it fit, when it does not.
        bigger: GPUs on which it fits as it is, when it does not.
        notes: what else to know.
    """

    shape: "ModelShape"
    gpu: "Gpu | None"
    schedule: "Schedule"
    load: "Load"
    peak: "Peak"
    room_gib: float
    fits: bool
    pace: "Pace | None"
    changes: "tuple[Change, ...]"
    bigger: "tuple[Gpu, ...]"
    notes: tuple[str, ...]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="xmlgrpo-plan",
        description="Estimate tokens, steps, memory and time of a training run. Loads no weights.",
        epilog="example: xmlgrpo-plan --config configs/gemma3-1b.yaml --gpu T4. "
        "Exit code 1: it does not fit.",
    )
    made.add_argument("--config", type=Path, required=True, help="a YAML file, see configs/")
    made.add_argument("--gpu", help="plan for this GPU, e.g. T4, L4, 4090, A100-80, H100")
    made.add_argument("--gpus", type=int, default=1, help="so many GPUs, one process each")
    made.add_argument("--json", action="store_true", help="for machines")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="override a key")
    return made


def main() -> None:
    """Entry point of the console script."""
    run_command(run)


def run() -> int:
    """Parse the command line, plan, print; 1 when the run does not fit."""
    arguments = parser().parse_args()
    if arguments.gpus < 1:
        raise UserError(f"--gpus: expected at least 1, got {arguments.gpus}")
    from xmlgrpo_trainer.config import load_config
    from xmlgrpo_trainer.gpus import find_gpu, found_gpu

    config = load_config(arguments.config, arguments.overrides)
    # a name that is not known is told before the libraries are imported
    named = find_gpu(arguments.gpu) if arguments.gpu else None
    from xmlgrpo_trainer.screen import make_console, quiet_libraries

    quiet_libraries()
    if named and config.model.device == "cpu":
        raise UserError(
            f"--gpu {arguments.gpu}: the configuration asks for the CPU; add model.device=auto"
        )
    gpu = None if config.model.device == "cpu" else named or found_gpu()
    if gpu is None and config.model.device == "cuda":
        raise UserError(
            "model.device is 'cuda', but torch finds no GPU here; name the one to plan for: "
            "--gpu T4 (with make: GPU=T4)"
        )
    plan = make_plan(config, gpu, arguments.gpus)
    if arguments.json:
        print(json.dumps(as_json(plan), indent=2))
    else:
        show(plan, arguments.config, make_console())
    return 0 if plan.fits else EXIT_DOES_NOT_FIT


def make_plan(config: "RunConfig", gpu: "Gpu | None", gpus: int = 1) -> Plan:
    """Plan a run for a GPU, or for this machine's CPU when `gpu` is None.

    Raises:
        UserError: a setting is refused, or the model's shape is not known.
    """
    from xmlgrpo_trainer.advice import changes_that_fit, gpus_that_fit
    from xmlgrpo_trainer.library_fields import check_groups, check_grpo, check_lora
    from xmlgrpo_trainer.memory import estimate
    from xmlgrpo_trainer.pace import pace
    from xmlgrpo_trainer.shapes import find_shape
    from xmlgrpo_trainer.sizing import load_on_gpu, schedule

    check_groups(all_fields(config), gpus)
    check_grpo(config.grpo)
    check_lora(config.lora)
    shape = find_shape(config.model)

    def load_of(changed: "RunConfig", on: "Gpu | None") -> "Load":
        fields = all_fields(changed)
        return load_on_gpu(changed, fields, schedule(changed, fields, gpus), shape, on)

    planned = schedule(config, all_fields(config), gpus)
    load = load_of(config, gpu)
    peak = estimate(load)
    room_gib = gpu.memory_gib if gpu else _machine_gib()
    fits = peak.total <= room_gib
    changes: list[Change] = []
    bigger: list[Gpu] = []
    if not fits and gpu is not None:
        changes = changes_that_fit(config, lambda c: estimate(load_of(c, gpu)), room_gib)
        bigger = gpus_that_fit(lambda other: estimate(load_of(config, other)))
    return Plan(
        shape=shape,
        gpu=gpu,
        schedule=planned,
        load=load,
        peak=peak,
        room_gib=room_gib,
        fits=fits,
        pace=pace(planned, load, gpu),
        changes=tuple(changes),
        bigger=tuple(bigger),
        notes=tuple(_notes(config, planned, load, gpu)),
    )


def all_fields(config: "RunConfig") -> dict[str, Any]:
    """Every field of trl's GRPOConfig with the value that the run would give it."""
    from trl import GRPOConfig

    from xmlgrpo_trainer.update import grpo_fields

    defaults = {
        field.name: field.default
        for field in dataclasses.fields(GRPOConfig)
        if field.default is not dataclasses.MISSING
    }
    absent = {"generation_batch_size": None, "steps_per_generation": None}
    return {**absent, **defaults, **grpo_fields(config)}


def _machine_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def _notes(config: "RunConfig", planned: "Schedule", load: "Load", gpu: "Gpu | None") -> list[str]:
    notes = []
    if gpu is not None and not gpu.bfloat16:
        notes.append(
            f"{gpu.name} has no bfloat16, and Gemma 3 overflows in float16: "
            + (
                "model.dtype=bfloat16 would be emulated there, slowly"
                if config.model.dtype == "bfloat16"
                else "float32 is used, twice the memory and slower"
            )
        )
    if gpu is not None and config.model.backend != "plain":
        notes.append(
            "the estimate is for the plain backend; Unsloth needed 3.3 to 5.6 GiB where plain trl "
            "needed 4.8 (1B on an H200, trl 1.15)"
        )
    if gpu is not None and load.engine == "graph":
        notes.append("the graph engine was not measured on a GPU; its figures are upper bounds")
    if planned.train_rows is None:
        notes.append(
            "how many problems there are is not known before they are loaded; set grpo.max_steps "
            "or data.limit to know the number of steps"
        )
    if load.shape.vision:
        notes.append("the vision tower is loaded but not trained; text never passes through it")
    if config.data.source == "hub" and config.model.revision is None:
        notes.append("model.revision is null: pin the commit, so that the run can be repeated")
    return notes


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain numbers and texts."""
    peak = dataclasses.asdict(plan.peak) | {
        "allocated": plan.peak.allocated,
        "total": plan.peak.total,
    }
    schedule = dataclasses.asdict(plan.schedule) | {
        "rollouts": plan.schedule.rollouts,
        "tokens_per_step": plan.schedule.tokens_per_step,
    }
    pace = None
    if plan.pace is not None:
        pace = dataclasses.asdict(plan.pace)
        pace["total_s"] = plan.pace.total_s(plan.schedule.steps)
    return {
        "model": {"name": plan.shape.name, "weights": plan.shape.weights},
        "gpu": dataclasses.asdict(plan.gpu) if plan.gpu else None,
        "trained_weights": plan.load.lora_weights,
        "engine": plan.load.engine,
        "schedule": schedule,
        "peak_gib": {name: round(value, 3) for name, value in peak.items()},
        "room_gib": round(plan.room_gib, 2),
        "fits": plan.fits,
        "pace": pace,
        "changes": [
            {"overrides": list(c.overrides), "peak_gib": round(c.peak.total, 3), "cost": c.cost}
            for c in plan.changes
        ],
        "fits_on": [gpu.name for gpu in plan.bigger],
        "notes": list(plan.notes),
    }


def show(plan: Plan, config_path: Path, console: "Console") -> None:
    """Print the plan for a person."""
    from xmlgrpo_trainer.plan_view import print_plan

    print_plan(plan, config_path, console)


if __name__ == "__main__":
    main()
