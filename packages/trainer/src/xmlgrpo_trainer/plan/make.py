"""Configuration and GPU -> plan: what a run would do, what it needs, and what would make it fit."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from xmlgrpo_trainer.config.batch import shared
from xmlgrpo_trainer.config.defaults import check_context, grpo_fields
from xmlgrpo_trainer.config.early_check import check_early
from xmlgrpo_trainer.config.recorded_fields import library_schema
from xmlgrpo_trainer.config.run_config import RunConfig
from xmlgrpo_trainer.plan.advice import Change, changes_that_fit, gpus_that_fit
from xmlgrpo_trainer.plan.gpus import Gpu, machine_gib
from xmlgrpo_trainer.plan.load import Load
from xmlgrpo_trainer.plan.memory import Peak, estimate
from xmlgrpo_trainer.plan.pace import Pace, pace
from xmlgrpo_trainer.plan.shapes import ModelShape, find_shape
from xmlgrpo_trainer.plan.sizing import Schedule, load_on_gpu, schedule

FAR_BELOW = 0.9  # of the peak: from there on the bound on prompts is worth a word


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

    shape: ModelShape
    gpu: Gpu | None
    schedule: Schedule
    load: Load
    peak: Peak
    room_gib: float
    fits: bool
    pace: Pace | None
    changes: tuple[Change, ...]
    bigger: tuple[Gpu, ...]
    notes: tuple[str, ...]


def make_plan(
    config: RunConfig, gpu: Gpu | None, gpus: int = 1, *, has_liger: bool = False
) -> Plan:
    """Plan a run for a GPU, or for this machine's CPU when `gpu` is None.

    Args:
        config: the run's configuration.
        gpu: each of those that the run has.
        gpus: how many share the configuration's batch.
        has_liger: liger-kernel is installed where the run will be, which then takes it by itself.

    Raises:
        UserError: a setting is refused, or the model's shape is not known.
    """
    check_early(config, gpus)
    shape = find_shape(config.model)
    check_context(config, shape.context)

    def load_of(changed: RunConfig, on: Gpu | None) -> Load:
        fields = shared(all_fields(changed), gpus)
        planned = schedule(changed, fields, gpus)
        return load_on_gpu(changed, fields, planned, shape, on, liger=has_liger)

    planned = schedule(config, shared(all_fields(config), gpus), gpus)
    load = load_of(config, gpu)
    peak = estimate(load)
    room_gib = gpu.memory_gib if gpu else machine_gib()
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


def all_fields(config: RunConfig) -> dict[str, Any]:
    """Every field of trl's GRPOConfig with the value that the run would give it."""
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(library_schema("GRPOConfig"))
        if field.default is not dataclasses.MISSING
    }
    absent = {"generation_batch_size": None, "steps_per_generation": None}
    return {**absent, **defaults, **grpo_fields(config)}


def _notes(config: RunConfig, planned: Schedule, load: Load, gpu: Gpu | None) -> list[str]:
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
            "the estimate is for the plain backend; beside it Unsloth needed 0.7 to 1.3 GiB more "
            "(1B on an H200, docs/measured/end-to-end-h200.json)"
        )
    if planned.train_rows is None:
        notes.append(
            "how many problems there are is not known before they are loaded; set grpo.max_steps "
            "or data.limit to know the number of steps"
        )
    if load.ours and not load.liger and "use_liger_kernel" not in config.grpo:
        chunked = estimate(dataclasses.replace(load, liger=True)).total
        notes.append(
            "liger-kernel is not installed here, so whole logits are counted; with it "
            f"(.venv/bin/pip install liger-kernel) the peak would be {chunked:.1f} GiB"
        )
    shorter = estimate(dataclasses.replace(load, prompt_tokens=load.prompt_tokens // 2)).total
    if gpu is not None and shorter < FAR_BELOW * estimate(load).total:
        notes.append(
            f"every prompt is counted as {load.prompt_tokens} tokens (data.max_prompt_tokens); "
            f"were the longest of a batch {load.prompt_tokens // 2}, the peak would be "
            f"{shorter:.1f} GiB"
        )
    if load.shape.vision:
        notes.append("the vision tower is loaded but not trained; text never passes through it")
    if config.data.source == "hub" and config.model.revision is None:
        notes.append("model.revision is null: pin the commit, so that the run can be repeated")
    return notes
