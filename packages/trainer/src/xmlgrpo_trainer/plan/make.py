"""Configuration and GPU -> plan: what a run would do, what it needs, and what would make it fit."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from xmlgrpo_trainer.config.batch import shared
from xmlgrpo_trainer.config.early_check import check_early
from xmlgrpo_trainer.config.recorded_fields import library_schema
from xmlgrpo_trainer.config.run_config import RunConfig, check_context, grpo_fields
from xmlgrpo_trainer.plan.advice import Change, changes_that_fit
from xmlgrpo_trainer.plan.gpus import TABLE, Gpu, machine_gib
from xmlgrpo_trainer.plan.memory import Peak, estimate
from xmlgrpo_trainer.plan.pace import Pace, pace
from xmlgrpo_trainer.plan.shapes import ModelShape, find_shape
from xmlgrpo_trainer.plan.workload import Load, load_of

FAR_BELOW = 0.9  # of the peak: from there on the bound on prompts is worth a word


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do and need."""

    shape: ModelShape
    gpu: Gpu | None  # None for the CPU
    load: Load
    peak: Peak
    room_gib: float  # the GPU's memory, or the machine's
    pace: Pace | None
    changes: list[Change]  # what would make it fit, where it does not
    bigger: list[Gpu]  # GPUs on which it fits as it is, the smallest first
    notes: list[str]

    @property
    def fits(self) -> bool:
        """Whether the estimate is within the room."""
        return self.peak.total <= self.room_gib


def make_plan(
    config: RunConfig, gpu: Gpu | None, gpus: int = 1, *, has_liger: bool = False
) -> Plan:
    """Plan a run for a GPU, or for this machine's CPU when `gpu` is None.

    Args:
        has_liger: liger-kernel is installed where the run will be, which then takes it by itself.

    Raises:
        UserError: a setting is refused, or the model's shape is not known.
    """
    check_early(config, gpus)
    shape = find_shape(config.model)
    check_context(config, shape.context)

    def load_on(of: RunConfig, on: Gpu | None) -> Load:
        return load_of(of, shared(all_fields(of), gpus), shape, on, gpus, liger=has_liger)

    def peak_gib(of: RunConfig, on: Gpu | None) -> float:
        return estimate(load_on(of, on)).total

    load = load_on(config, gpu)
    made = Plan(
        shape=shape,
        gpu=gpu,
        load=load,
        peak=estimate(load),
        room_gib=gpu.memory_gib if gpu else machine_gib(),
        pace=pace(load, gpu),
        changes=[],
        bigger=[],
        notes=_notes(config, load, gpu),
    )
    if made.fits or gpu is None:
        return made
    bigger = [other for other in TABLE if peak_gib(config, other) <= other.memory_gib]
    return dataclasses.replace(
        made,
        changes=changes_that_fit(config, lambda of: peak_gib(of, gpu), gpu.memory_gib),
        bigger=sorted(bigger, key=lambda other: other.memory_gib),
    )


def all_fields(config: RunConfig) -> dict[str, Any]:
    """Every field of trl's GRPOConfig with the value that the run would give it."""
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(library_schema("GRPOConfig"))
        if field.default is not dataclasses.MISSING
    }
    absent = {"generation_batch_size": None, "steps_per_generation": None}
    return {**absent, **defaults, **grpo_fields(config)}


def _notes(config: RunConfig, load: Load, gpu: Gpu | None) -> list[str]:
    notes = []
    if gpu is not None and not gpu.bfloat16:
        taken = "float32 is used, twice the memory and slower"
        if config.model.dtype == "bfloat16":
            taken = "model.dtype=bfloat16 would be emulated there, slowly"
        overflows = ", and Gemma 3 overflows in float16" if load.shape.gemma else ""
        notes.append(f"{gpu.name} has no bfloat16{overflows}: {taken}")
        notes.append(
            f"nothing was measured on a {gpu.name}: no step, nor whether Triton compiles graph's "
            "kernels there (generate is taken where it does not), nor "
            "model.float16_products=true, which multiplies float16 factors on its tensor cores "
            "(float32's losses on a CPU)"
        )
    if gpu is not None and config.model.backend != "plain":
        notes.append(
            "the estimate is for the plain backend; beside it Unsloth needed 0.7 to 1.3 GiB more "
            "(1B on an H200, docs/measured/end-to-end-h200.json)"
        )
    if load.train_rows is None:
        notes.append(
            "how many problems there are is not known before they are loaded; set grpo.max_steps "
            "or data.limit to know the number of steps"
        )
    notes += _uncounted(config, load)
    if load.ours and not (load.liger or load.packed) and "use_liger_kernel" not in config.grpo:
        chunked = estimate(dataclasses.replace(load, liger=True)).total
        notes.append(
            "liger-kernel is not installed here, so whole logits are counted; with it "
            f"(.venv/bin/pip install liger-kernel) the peak would be {chunked:.1f} GiB"
        )
    half = load.prompt_tokens // 2
    shorter = estimate(dataclasses.replace(load, prompt_tokens=half)).total
    if gpu is not None and shorter < FAR_BELOW * estimate(load).total:
        notes.append(
            f"every prompt is counted as {load.prompt_tokens} tokens (data.max_prompt_tokens); if "
            f"the longest of a batch had {half}, the peak would be {shorter:.1f} GiB"
        )
    if load.shape.vision:
        notes.append("the vision tower is loaded but not trained; text never passes through it")
    if config.data.source == "hub" and config.model.revision is None:
        notes.append("model.revision is null: pin the commit, so that the run can be repeated")
    return notes


def _uncounted(config: RunConfig, load: Load) -> list[str]:
    """What of some settings is not in the estimate."""
    notes = []
    if load.packed:
        notes.append(
            "packed_rows: completions that turn out to have no advantage, which it does not "
            "compute, are counted"
        )
    if config.merged_pass:
        notes.append(
            "merged_pass: a step's time and memory are counted as without it; neither was measured "
            "on a GPU"
        )
    if load.int8:
        notes.append(
            "rollout_weights: the second copy of the projections, in 8 bits, is counted; that "
            "drawing with it was slower on an H200 is not"
        )
    return notes
