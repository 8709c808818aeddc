"""What was measured beside what the plan says of the same run.

Reads what `speed.py`, `step_growth.py`, `limits.py`, `measure_peaks.py` and `two_gpus.py` write,
each told by its keys.  Whole runs are planned twice: as configured, where the longest prompt is a
bound that the problems stay below, and with the longest prompt that it had (`prompt_lengths.py`);
the rest of the error is the plan's own.
"""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import limits_cases
import speed
import step_growth

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config.run_config import RunConfig, check_config, load_config
from xmlgrpo_trainer.plan.advice import changed
from xmlgrpo_trainer.plan.gpus import Gpu, nearest_gpu
from xmlgrpo_trainer.plan.load import Load
from xmlgrpo_trainer.plan.make import Plan, make_plan
from xmlgrpo_trainer.plan.memory import estimate
from xmlgrpo_trainer.plan.shapes import GEMMA_3

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# tokens by prompts a step: python ci/gpu/prompt_lengths.py --gsm8k FOLDER --steps 6 --prompts 32
LONGEST_PROMPTS = {1: 198, 2: 198, 4: 198, 8: 198, 32: 216, 128: 216}
SCALING_PROMPT = 228  # of the 20 steps of two-h200.json, from all of GSM8K's train split
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
    """Every figure of one file that a plan can be held against; none of a file of another kind."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected a JSON file of measurements: {error}") from None
    for key, read in READERS.items():
        if isinstance(told, dict) and key in told:
            try:
                return list(read(path.name, told))
            except (KeyError, TypeError, AttributeError) as error:
                reason = f"{type(error).__name__}: {error}"
                raise UserError(
                    f"{path}: expected what a script of ci/gpu writes under {key!r} ({reason})"
                ) from None
    return []


def of_peaks(file: str, told: dict[str, Any]) -> Iterator[Comparison]:
    """measure_peaks.py: trl's and peft's own training step, prompts all of one length."""
    for one in told["peaks"]:
        gib = estimate(load_of_peak(one)).allocated
        yield Comparison(file, one["name"], MEMORY, one["peak_gib"], gib)


def load_of_peak(measured: dict[str, Any]) -> Load:
    """What one setting of `settings.py` asks: an update without drawing, or a rollout by itself."""
    shape, drawn = GEMMA_3[measured["size"]], measured["drawn"]
    return Load(
        shape=shape,
        number_bytes=2,
        quantized=measured["quantized"],
        lora_weights=shape.lora_weights(measured["rank"], None),
        optimizer_bytes=4 if measured["quantized"] else 8,
        engine="generate",
        rows=drawn or 1,
        group=8,
        held_out_rows=1,
        micro_batch=1 if drawn else measured["micro_batch"],
        prompt_tokens=measured["prompt_tokens"],
        completion_tokens=measured["completion_tokens"],
        held_out_tokens=1,
        checkpointing=measured["checkpointing"],
        liger=measured["liger"],
        ragged=False,
        second_pass=measured["beta"] > 0,
    )


def of_speed(file: str, told: dict[str, Any]) -> Iterator[Comparison]:
    """speed.py: whole steps at one shape."""
    variants = {variant.name: variant for variant in speed.VARIANTS}
    for name, result in told["variants"].items():
        variant = variants.get(name)
        if variant is None or result["step_s"] is None or not result.get("hardware"):
            continue
        gpu = nearest_gpu(result["hardware"]["device"], 0.0)
        raw = speed.configuration(
            variant, named(told["size"]), Path("gsm8k"), speed.Work(told["tokens"])
        )
        note = ""
        if variant.backend != "plain":
            note = "Unsloth, of which the plan knows nothing"
        elif variant.alone:
            note = "trl and peft alone, planned as ours"
        config = check_config(raw, file)
        yield from compared(file, name, result, config=config, gpu=gpu, note=note)


def of_growth(file: str, told: dict[str, Any]) -> Iterator[Comparison]:
    """step_growth.py: steps of several sizes."""
    for name, result in told["growth"].items():
        if result["exit_code"] != 0 or not result["hardware"]:
            continue
        case = step_growth.Case(result["completions"], result["tokens"])
        work = speed.Work(case.tokens, case.completions // speed.GROUP)
        raw = speed.configuration(
            step_growth.variant(case), named(told["size"]), Path("gsm8k"), work
        )
        gpu = nearest_gpu(result["hardware"]["device"], 0.0)
        seen = result | {"prompt_tokens": LONGEST_PROMPTS[work.prompts]}
        yield from compared(file, name, seen, config=check_config(raw, file), gpu=gpu)


def of_limits(file: str, told: dict[str, Any]) -> Iterator[Comparison]:
    """limits.py: the runs that ended well, on cards that a cap made smaller."""
    cases = {case.name: case for case in limits_cases.CASES}
    card = nearest_gpu(told["card"], 0.0) if told["card"] else None
    for name, result in told["cases"].items():
        if card is None or name not in cases:
            continue
        case = cases[name]
        gpu = dataclasses.replace(card, memory_gib=case.memory_gib)
        for tried in result["tried"]:
            if not tried["ran"]:
                continue
            raw = limits_cases.configuration(
                case, named(case.size), Path("gsm8k"), tried["tokens"], tried["prompts"]
            )
            is_alone = result["jobs"] == 1  # of others at once a time says nothing
            step_s = tried["step_s"][-1] if is_alone and tried["step_s"] else None
            measured = {"memory": tried["memory"], "step_s": step_s}
            config = check_config(raw, file)
            run = f"{name}-{tried['tokens']}"
            yield from compared(file, run, measured, config=config, gpu=gpu)


def of_scaling(file: str, told: dict[str, Any]) -> Iterator[Comparison]:
    """two_gpus.py: one configuration on several numbers of GPUs."""
    path = CONFIGS / told["config"]
    for result in told["runs"]:
        gpu = nearest_gpu(result["hardware"]["device"], 0.0)
        if gpu is None or not path.is_file():
            continue
        kept = [word for word in told["overrides"] if not word.startswith("data.source=")]
        config = load_config(path, kept)
        name = f"{result['gpus']} GPU(s)"
        seen = result | {"prompt_tokens": SCALING_PROMPT}
        yield from compared(file, name, seen, config=config, gpu=gpu, gpus=result["gpus"])


def compared(
    file: str,
    run: str,
    measured: dict[str, Any],
    *,
    config: RunConfig,
    gpu: Gpu | None,
    note: str = "",
    gpus: int = 1,
) -> Iterator[Comparison]:
    """Memory and step time of a run, where they were measured."""
    prompt = min(
        measured.get("prompt_tokens") or LONGEST_PROMPTS[speed.PROMPTS],
        config.data.max_prompt_tokens,
    )
    shorter = changed(config, {"data.max_prompt_tokens": prompt})
    plan, seen = (make_plan(c, gpu, gpus, has_liger=True) for c in (config, shorter))
    memory = measured.get("memory")
    if memory:
        peaks = (plan.peak.allocated, seen.peak.allocated)
        yield Comparison(file, run, MEMORY, memory["allocated_gib"], *peaks, note)
    times = step_s(plan), step_s(seen)
    if measured["step_s"] and times[0] is not None:
        yield Comparison(file, run, TIME, measured["step_s"], times[0], times[1], note)


def step_s(plan: Plan) -> float | None:
    """Rollout and update of one step."""
    return None if plan.pace is None else plan.pace.rollout_s + plan.pace.update_s


def named(size: str) -> Path:
    """A model of which the plan knows the shape by its name."""
    return Path(f"gemma-3-{size}-random")


READERS = {
    "peaks": of_peaks,
    "variants": of_speed,
    "growth": of_growth,
    "cases": of_limits,
    "compared": of_scaling,
}
