"""`xmlgrpo-plan`: tokens, steps, memory and time of a run, before any weight is loaded."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmlgrpo_rewards.console_script import add_version, path_argument, run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.checkout import is_installed
from xmlgrpo_trainer.ranks.processes import gpu_count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from xmlgrpo_trainer.config.run_config import RunConfig
    from xmlgrpo_trainer.plan.make import Plan
    from xmlgrpo_trainer.plan.shapes import ModelShape

EXIT_DOES_NOT_FIT = 1
MEASURED_ON_GPU = (
    "the counts were within 3 % of thirteen peaks measured on an H100; elsewhere they are unproven"
)
MEASURED_ON_CPU = "the counts were checked on a GPU only"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="xmlgrpo-plan",
        description="Estimate tokens, steps, memory and time of a training run. Loads no weights.",
        epilog="example: xmlgrpo-plan --config configs/gemma3-1b.yaml --gpu T4. "
        "Exit code 1: it does not fit.",
    )
    add_version(made)
    made.add_argument(
        "--config", type=path_argument, required=True, help="a YAML file, see configs/"
    )
    made.add_argument("--gpu", help="plan for this GPU, e.g. T4, L4, 4090, A100-80, H100")
    made.add_argument("--gpus", type=gpu_count, default=1, help="so many GPUs, one process each")
    made.add_argument("--json", action="store_true", help="for machines")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="override a key")
    return made


def main() -> None:
    """Entry point of the console script."""
    run_command(run)


def run() -> int:
    """Parse the command line, plan, print; 1 when the run does not fit."""
    arguments = parser().parse_args()
    from xmlgrpo_trainer.config.run_config import load_config
    from xmlgrpo_trainer.plan.gpus import find_gpu, found_gpu

    config = load_config(arguments.config, arguments.overrides)
    # a name that is not known is refused before the libraries are imported
    named = find_gpu(arguments.gpu) if arguments.gpu else None
    from xmlgrpo_run.screen.console import make_console, quiet_libraries
    from xmlgrpo_trainer.plan.make import make_plan

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
    has_liger = is_installed("liger_kernel")
    plan = make_plan(config, gpu, arguments.gpus, has_liger=has_liger)
    _check(config, plan.shape, arguments.gpus, here=named is None)
    if arguments.json:
        print(json.dumps(as_json(plan), indent=2))
    else:
        print_plan(plan, arguments.config, make_console())
    return 0 if plan.fits else EXIT_DOES_NOT_FIT


def _check(config: "RunConfig", shape: "ModelShape", gpus: int, *, here: bool) -> None:
    """Refuse what the run would; the libraries are imported only where they have a say."""
    from xmlgrpo_rewards.task import get_task
    from xmlgrpo_rewards.total import load_rewards
    from xmlgrpo_run.folder import model_source
    from xmlgrpo_run.screen.console import make_console
    from xmlgrpo_run.screen.loading import reading_libraries
    from xmlgrpo_trainer.config.library_fields import is_settled

    load_rewards(config.rewards, get_task(config.task))
    ranks = {name: min(sizes) for name, sizes in shape.projections().items()}
    is_a_folder = Path(model_source(config.model.name)).is_dir()
    attention = config.model.attn_implementation
    if is_a_folder or not is_settled(config.grpo, config.lora, attention, ranks):
        from xmlgrpo_trainer.prepare import LIBRARY_MODULES, check_planned

        with reading_libraries(make_console(stderr=True), LIBRARY_MODULES):
            check_planned(config, shape, gpus, here=here)


def as_json(plan: "Plan") -> dict[str, Any]:
    """The plan as plain numbers and texts."""
    made = dataclasses.asdict(plan) | {"fits": plan.fits}
    made["peak"] |= {"allocated": plan.peak.allocated, "total": plan.peak.total}
    load = plan.load
    made["load"] |= {"rollouts": load.rollouts, "tokens_per_step": load.tokens_per_step}
    if plan.pace is not None:
        made["pace"]["total_s"] = plan.pace.total_s(plan.load.steps)
    return made


def print_plan(plan: "Plan", config_path: Path, console: "Console") -> None:
    """Print what the run does, what it needs, whether it fits, and what to change."""
    from rich.markup import escape

    from xmlgrpo_run.screen.say import say

    where = plan.gpu.name if plan.gpu else "this machine's CPU"
    say(console, f"[bold]{escape(str(config_path))}[/] on {escape(where)}")
    console.print(_table("what is done", "", _work(plan)))
    console.print(_table("memory at the peak", "GiB", _memory(plan)))
    for line in _verdict(plan, escape(where)):
        say(console, line)
    say(console, f"time: {escape(_time(plan))}")
    for note in plan.notes:
        say(console, escape(note), head="[dim]note[/]  ")


def _work(plan: "Plan") -> dict[str, str]:
    load = plan.load
    packed = ", linear layers in 4 bits" if load.quantized else ""
    dtype = "bfloat16" if load.number_bytes == 2 else "float32"
    unknown = "not known before loading"
    work = {
        "model": f"{plan.shape.name}: {plan.shape.weights:,} weights{packed} ({dtype})",
        "adapter": f"{load.lora_weights:,} trained weights",
        "problems": unknown if load.train_rows is None else f"{load.train_rows:,} to train on",
        "a generation batch": f"{load.prompts} problems x {load.group} completions = "
        f"{load.prompts * load.group}, for {load.reuse} step(s), by {load.engine}",
        "tokens per step": f"at most {load.tokens_per_step:,}: {load.micro_batch} x "
        f"{load.micro_batches} completions of {load.prompt_tokens} + "
        f"{load.completion_tokens} tokens",
    }
    if load.steps is None:
        return work | {"steps": unknown}
    tokens = load.tokens_per_step * load.steps
    return work | {
        "steps": f"{load.steps:,}",
        "completions in all": f"{load.rollouts:,}",
        "tokens in all": f"at most {tokens / 1e6:,.1f} million",
        "held-out replies": f"{load.asked:,}",
    }


def _memory(plan: "Plan") -> dict[str, str]:
    from xmlgrpo_trainer.plan.memory import CONTEXT_GIB

    peak = plan.peak
    rollout = peak.cache + peak.rollout
    larger = "rollout" if rollout >= peak.update else "update"
    counts = {phase: " (counts)" if phase == larger else "" for phase in ("rollout", "update")}
    parts = {
        "weights": peak.weights,
        "adapter, gradients, optimiser": peak.adapter,
        f"kept by the {plan.load.engine} engine": peak.engine,
        f"rollout: keys and values {peak.cache:.2f}, reading and sampling {peak.rollout:.2f}"
        + counts["rollout"]: rollout,
        f"update: activations {peak.activations:.2f}, logits {peak.logits:.2f}"
        + counts["update"]: peak.update,
        "CUDA context" if plan.gpu else "Python and torch": CONTEXT_GIB,
        "margin for fragments": peak.slack,
        "[bold]peak[/]": peak.total,
    }
    return {name: f"{gib:.2f}" for name, gib in parts.items() if gib}


def _verdict(plan: "Plan", where: str) -> list[str]:
    room = f"{plan.room_gib:.1f} GiB of {where}"
    grounds = MEASURED_ON_GPU if plan.gpu else MEASURED_ON_CPU
    if plan.fits:
        free = plan.room_gib - plan.peak.total
        return [f"[bold green]fits[/] the {room}, {free:.1f} GiB to spare ({grounds})"]
    lines = [f"[bold red]does not fit[/] the {room} ({grounds})"]
    for change in plan.changes:
        overrides = " ".join(change.overrides)
        lines.append(f"  fits with [bold]{overrides}[/]: {change.peak_gib:.1f} GiB ({change.cost})")
    if not plan.changes:
        lines.append("  no change of batch, length or precision makes it fit: a smaller model")
    if plan.bigger:
        names = ", ".join(f"{gpu.name} ({gpu.memory_gib:.0f})" for gpu in plan.bigger[:4])
        lines.append(f"  fits as it is on {names}")
    return lines


def _time(plan: "Plan") -> str:
    if plan.pace is None:
        return "no estimate, nothing comparable was measured"
    total_s, held_out_s = plan.pace.total_s(plan.load.steps), plan.pace.held_out_s
    whole = "" if total_s is None else f"about {_duration(total_s)} at most: "
    held_out = "" if held_out_s is None else f", {_duration(held_out_s)} held-out"
    parts = f"{plan.pace.rollout_s:.1f} s rollout + {plan.pace.update_s:.1f} s update per step"
    return f"{whole}{parts}{held_out} ({plan.pace.grounds})"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _table(left: str, right: str, rows: dict[str, str]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column(left)
    table.add_column(right, justify="right" if right else "left")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


if __name__ == "__main__":
    main()
