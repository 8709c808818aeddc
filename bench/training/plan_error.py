"""The error of `make plan`: every measured figure beside the plan's of the same run.

    python -m bench.training.plan_error docs/measured/*.json

Reads what `steps.py`, `speed_up.py` and `peaks.py` write.  A whole run is planned twice: as
configured, where `data.max_prompt_tokens` bounds the longest prompt, and with the longest prompt
that it had, where that is noted; the error that is left is the plan's own.  Needs no GPU.
"""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.shared.texts import markdown
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config.run_config import check_config
from xmlgrpo_trainer.plan.advice import changed
from xmlgrpo_trainer.plan.gpus import nearest_gpu
from xmlgrpo_trainer.plan.make import make_plan
from xmlgrpo_trainer.plan.memory import estimate
from xmlgrpo_trainer.plan.shapes import GEMMA_3
from xmlgrpo_trainer.plan.workload import Load

MEMORY, TIME = "peak GiB", "step s"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measured figure beside the plan's.

    Attributes:
        file, run: where it was measured.
        what: peak memory in use, or a step's time; its unit too.
        measured: the figure.
        configured: the plan's, with the configuration's bounds.
        seen: the plan's, with the longest prompt that the run had; None where that is the bound.
        note: what keeps the two from being comparable, if anything.
    """

    file: str
    run: str
    what: str
    measured: float
    configured: float
    seen: float | None = None
    note: str = ""

    @property
    def error_percent(self) -> float:
        """Of the plan with the prompts that were seen: its own error."""
        return 100 * ((self.seen or self.configured) / self.measured - 1)

    @property
    def configured_percent(self) -> float:
        """Of the plan as `make plan` prints it."""
        return 100 * (self.configured / self.measured - 1)


def compare(path: Path) -> list[Comparison]:
    """Every figure of one file that a plan can be held against; none of a file of another kind.

    Raises:
        UserError: it is no JSON file, or a run in it cannot be planned.
    """
    try:
        measured = json.loads(path.read_text(encoding="utf-8"))
        found = [one for name, run in runs_in(measured) for one in of_run(path.name, name, run)]
        peaks = measured.get("peaks", []) if isinstance(measured, dict) else []
        return found + [of_peak(path.name, peak) for peak in peaks]
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise UserError(
            f"{path}: expected a JSON file that a script of bench/ has written; "
            f"{type(error).__name__}: {error}"
        ) from None


def runs_in(measured: Any, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Whatever holds its own configuration, with the key that it stands under."""
    if isinstance(measured, dict) and isinstance(measured.get("config"), dict):
        yield name, measured
    elif isinstance(measured, dict):
        for key, value in measured.items():
            yield from runs_in(value, key if isinstance(value, dict) else name)
    elif isinstance(measured, list):
        for number, value in enumerate(measured):
            yield from runs_in(value, f"{name} {number + 1}".strip())


def of_run(file: str, name: str, run: dict[str, Any]) -> Iterator[Comparison]:
    """Memory and step time of a whole run."""
    hardware = run.get("hardware") or {}
    gpu = nearest_gpu(hardware.get("device", "NVIDIA H200"), 0.0)
    if gpu is None:
        return
    if run.get("card_gib"):
        gpu = dataclasses.replace(gpu, memory_gib=run["card_gib"])
    config = check_config(run["config"], f"{file}: {name}")
    prompt = run.get("longest_prompt") or config.data.max_prompt_tokens
    shorter = changed(config, {"data.max_prompt_tokens": prompt})
    plan, seen = (make_plan(c, gpu, run.get("gpus", 1), has_liger=True) for c in (config, shorter))
    note = run.get("note", "")
    if run.get("memory"):
        peaks = (plan.peak.allocated, seen.peak.allocated)
        yield Comparison(file, name, MEMORY, run["memory"]["allocated_gib"], *peaks, note)
    steps_s = run.get("step_s")
    if isinstance(steps_s, list):  # two steps: the second; of others at once a time says nothing
        steps_s = steps_s[-1] if steps_s and run.get("jobs") == 1 else None
    if steps_s and plan.pace and seen.pace:
        planned, with_seen = (p.rollout_s + p.update_s for p in (plan.pace, seen.pace))
        yield Comparison(file, name, TIME, steps_s, planned, with_seen, note)


def of_peak(file: str, peak: dict[str, Any]) -> Comparison:
    """peaks.py: trl's and peft's own training step, or a rollout by itself."""
    shape, drawn = GEMMA_3[peak["size"]], peak["drawn"]
    load = Load(
        shape=shape,
        number_bytes=2,
        quantized=peak["quantized"],
        lora_weights=shape.lora_weights(peak["rank"], None),
        optimizer_bytes=4 if peak["quantized"] else 8,
        engine="generate",
        rows=drawn or 1,
        group=8,
        held_out_rows=1,
        micro_batch=1 if drawn else peak["micro_batch"],
        prompt_tokens=peak["prompt_tokens"],
        completion_tokens=peak["completion_tokens"],
        held_out_tokens=1,
        checkpointing=peak["checkpointing"],
        liger=peak["liger"],
        ragged=False,
        second_pass=peak["beta"] > 0,
    )
    return Comparison(file, peak["name"], MEMORY, peak["peak_gib"], estimate(load).allocated)


def table(comparisons: list[Comparison]) -> str:
    """Markdown, a row a figure."""
    head = ["file", "run", "what", "measured", "plan as configured", "error"]
    head += ["with the prompts seen", "error"]
    rows = []
    for one in comparisons:
        seen, error = "", ""
        if one.seen is not None:
            seen, error = f"{one.seen:.2f}", f"{one.error_percent:+.1f} %"
        run = f"{one.run} ({one.note})" if one.note else one.run
        planned = (
            f"{one.measured:.2f}",
            f"{one.configured:.2f}",
            f"{one.configured_percent:+.1f} %",
        )
        rows.append([one.file, run, one.what, *planned, seen, error])
    return markdown(head, rows)


def main() -> int:
    """Compare what the files hold; 1 when there is nothing in them."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("files", type=Path, nargs="+", help="measurements, as JSON")
    comparisons = [one for path in made.parse_args().files for one in compare(path)]
    print(table(comparisons))
    return int(not comparisons)


if __name__ == "__main__":
    run_command(main)
