"""The first lines of a run: what is about to be trained, on what, how."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from xmlgrpo_run.screen.say import say
from xmlgrpo_trainer.prepare import Prepared
from xmlgrpo_trainer.ranks.processes import Ranks


def introduce(console: Console, run: Prepared, rollout: str, trained: int) -> None:
    """Say what is about to run, in figures.

    Args:
        rollout: the engine and why it was chosen.
        trained: weights of the adapter.
    """
    model, placement, problems = run.policy.model, run.policy.placement, run.problems
    arguments = run.arguments
    weights = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    group = arguments.num_generations
    prompts = arguments.generation_batch_size // group
    left_out = f"{problems.dropped_long} over-long, {problems.repeated} repeated"
    counts = (
        f"{len(problems.train):,} to train on, {len(problems.validation)} validation, "
        f"{len(problems.report)} held out ({problems.source}; left out: {left_out})"
    )
    tokens = arguments.max_completion_length
    lines = {
        "model": f"{_shown(run.base)} ({weights:,} weights, {placement.dtype}, {placement.device})",
        "adapter": f"LoRA, {trained:,} trained weights",
        "backend": f"{placement.backend} ({placement.reason})",
        **_processes(run.ranks, arguments),
        "rollout": rollout,
        "problems": counts,
        "each step": f"{prompts} prompts x {group} completions of at most {tokens} tokens",
        "rewards": ", ".join(f"{r.name} x {r.weight:g}" for r in run.rewards),
        "run folder": _shown(str(run.folder.root)),
    }
    for name, text in lines.items():
        say(console, escape(text), head=f"[bold]{name:10}[/] ")


def _processes(ranks: Ranks, arguments: Any) -> dict[str, str]:
    if ranks.count == 1:
        return {}
    micro, rounds = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps
    share = f"{micro} completions x {rounds} backward pass{'es' if rounds > 1 else ''} a step"
    return {"processes": f"{ranks.count} share the configuration's batch: {share} each"}


def _shown(place: str) -> str:
    """A path as short as it can be written from here; anything else as it is."""
    path = Path(place)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else place
