"""A plan, shown: on the screen for a person, as JSON for a machine."""

import dataclasses
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xmlgrpo_run.screen.say import say
from xmlgrpo_trainer.plan.make import Plan

MEASURED_ON_GPU = (
    "the counts were within 3 % of thirteen peaks measured on an H100; elsewhere they are unproven"
)
MEASURED_ON_CPU = "the counts were checked on a GPU only"


def print_plan(plan: Plan, config_path: Path, console: Console) -> None:
    """Print what the run does, what it needs, whether it fits, and what to change."""
    where = plan.gpu.name if plan.gpu else "this machine's CPU"
    say(console, f"[bold]{escape(str(config_path))}[/] on {escape(where)}")
    console.print(_work(plan))
    console.print(_memory(plan))
    _verdict(plan, where, console)
    _time(plan, console)
    for note in plan.notes:
        say(console, escape(note), head="[dim]note[/]  ")


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


def _work(plan: Plan) -> Table:
    planned, table = plan.schedule, _table("what is done", "")
    table.add_row(
        "model",
        f"{plan.shape.name}: {plan.shape.weights:,} weights"
        + (", linear layers in 4 bits" if plan.load.quantized else "")
        + (" (bfloat16)" if plan.load.number_bytes == 2 else " (float32)"),
    )
    table.add_row("adapter", f"{plan.load.lora_weights:,} trained weights")
    rows = "not known before loading" if planned.train_rows is None else f"{planned.train_rows:,}"
    table.add_row("problems", f"{rows} to train on")
    table.add_row(
        "a generation batch",
        f"{planned.prompts} problems x {planned.group} completions = "
        f"{planned.prompts * planned.group}, for {planned.reuse} step(s), by {plan.load.engine}",
    )
    table.add_row(
        "tokens a step",
        f"at most {planned.tokens_per_step:,}: {planned.micro_batch} x {planned.micro_batches} "
        f"completions of {planned.prompt_tokens} + {planned.completion_tokens} tokens",
    )
    if planned.steps is None:
        table.add_row("steps", "not known before loading")
    else:
        tokens = planned.tokens_per_step * planned.steps
        table.add_row("steps", f"{planned.steps:,}")
        table.add_row("completions in all", f"{planned.rollouts:,}")
        table.add_row("tokens in all", f"at most {tokens / 1e6:,.1f} million")
        table.add_row("held-out replies", f"{planned.asked:,}")
    return table


def _memory(plan: Plan) -> Table:
    peak, table = plan.peak, _table("memory at the peak", "GiB")
    rollout, update = peak.cache + peak.rollout, peak.update
    table.add_row("weights", f"{peak.weights:.2f}")
    table.add_row("adapter, gradients, optimiser", f"{peak.adapter:.2f}")
    if peak.engine:
        table.add_row(f"kept by the {plan.load.engine} engine", f"{peak.engine:.2f}")
    counts = " (counts)"
    table.add_row(
        f"rollout: keys and values {peak.cache:.2f}, reading and sampling {peak.rollout:.2f}"
        + (counts if rollout >= update else ""),
        f"{rollout:.2f}",
    )
    table.add_row(
        f"update: activations {peak.activations:.2f}, logits {peak.logits:.2f}"
        + (counts if update > rollout else ""),
        f"{update:.2f}",
    )
    table.add_row("CUDA context" if plan.gpu else "Python and torch", f"{peak.context:.2f}")
    table.add_row("margin for fragments", f"{peak.slack:.2f}")
    table.add_row("[bold]peak[/]", f"[bold]{peak.total:.2f}[/]")
    return table


def _verdict(plan: Plan, where: str, console: Console) -> None:
    room = f"{plan.room_gib:.1f} GiB of {where}"
    grounds = MEASURED_ON_GPU if plan.gpu else MEASURED_ON_CPU
    if plan.fits:
        free = plan.room_gib - plan.peak.total
        say(console, f"[bold green]fits[/] the {escape(room)}, {free:.1f} GiB to spare ({grounds})")
        return
    say(console, f"[bold red]does not fit[/] the {escape(room)} ({grounds})")
    for change in plan.changes:
        say(
            console,
            f"  fits with [bold]{escape(' '.join(change.overrides))}[/]: "
            f"{change.peak.total:.1f} GiB ({escape(change.cost)})",
        )
    if not plan.changes:
        say(console, "  no change of batch, length or precision makes it fit: a smaller model")
    if plan.bigger:
        names = ", ".join(f"{gpu.name} ({gpu.memory_gib:.0f})" for gpu in plan.bigger[:4])
        say(console, f"  fits as it is on {names}")


def _time(plan: Plan, console: Console) -> None:
    if plan.pace is None:
        say(console, "time: no estimate, nothing comparable was measured")
        return
    total_s = plan.pace.total_s(plan.schedule.steps)
    parts = f"{plan.pace.rollout_s:.1f} s rollout + {plan.pace.update_s:.1f} s update a step"
    whole = "" if total_s is None else f"about {_duration(total_s)} at most: "
    held_out = (
        "" if plan.pace.held_out_s is None else f", {_duration(plan.pace.held_out_s)} held-out"
    )
    say(console, f"time: {whole}{parts}{held_out} ({escape(plan.pace.grounds)})")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _table(left: str, right: str) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column(left)
    table.add_column(right, justify="right" if right else "left")
    return table
