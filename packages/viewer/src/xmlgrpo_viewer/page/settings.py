"""What a run was told that the defaults do not say, what it cost, and where it ran."""

from collections.abc import Iterator, Mapping
from typing import Any

from xmlgrpo_rewards.prose import without_paths
from xmlgrpo_run.manifest import Manifest
from xmlgrpo_run.screen.progress import clock
from xmlgrpo_trainer.config.defaults import GRPO_DEFAULTS, LORA_DEFAULTS
from xmlgrpo_trainer.config.recorded_fields import recorded_defaults
from xmlgrpo_trainer.config.run_config import RunConfig
from xmlgrpo_viewer.reading.run_view import RunView

LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "unsloth", "vllm")
UNKNOWN = object()
# section -> what we make of it where it is silent, and the library's dataclass that has the rest
LIBRARY_SECTIONS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "grpo": (GRPO_DEFAULTS, "GRPOConfig"),
    "lora": (LORA_DEFAULTS, "LoraConfig"),
}


def changed_settings(view: RunView) -> list[tuple[str, str, str]]:
    """Key, value and default of every setting that is not the default."""
    if view.config is None:
        return []
    ours, defaults = (dict(flat(one.model_dump())) for one in (view.config, RunConfig()))
    defaults |= {key: default for key in ours if (default := library_default(key)) is not UNKNOWN}
    return [
        (key, _shown(ours.get(key)), _shown(defaults.get(key, "none")))
        for key in dict.fromkeys((*ours, *defaults))
        if ours.get(key) != defaults.get(key)
    ]


def flat(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as dotted keys, as `ARGS` takes them."""
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from flat(inner, f"{above}{key}.")
        else:
            yield f"{above}{key}", inner


def cost_and_environment(view: RunView) -> list[tuple[str, str]]:
    """What it took, on what; only what the run's files say."""
    rows: list[tuple[str, str]] = []
    times, seconds = view.times, view.log.series("step_time")
    if len(times) > 1:
        rows.append(("from first to last step", clock(times[-1][1] - times[0][1])))
    if seconds:
        spent = sum(value for _, value in seconds)
        rows.append(("in steps", f"{clock(spent)}, {spent / len(seconds):.2f} s a step"))
    tokens = view.log.series("num_tokens")
    if tokens:
        rows.append(("tokens of prompts and completions", f"{tokens[-1][1]:,.0f}"))
    manifest = view.manifest
    hours = gpu_hours(manifest) if manifest else None
    if hours is not None:
        rows.append(("GPU-hours in steps", f"{hours:.2g}"))
    used_kwh = energy_kwh(view)
    rows.append(("energy of the GPUs", "not told" if used_kwh is None else f"{used_kwh:.3g} kWh"))
    if peaks := view.log.series("peak_mib"):
        whose = "" if manifest is None else " of the process" if hours is None else " of a GPU"
        rows.append((f"peak memory{whose}", f"{max(value for _, value in peaks):,.0f} MiB"))
    if manifest is None:
        return rows
    rows += [(name, _shown(value)) for name, value in manifest.hardware.items()]
    rows.append(("completions drawn by", manifest.rollout))
    rows.append(("code", _commit(manifest)))
    rows += [(name, manifest.versions[name]) for name in LIBRARIES if name in manifest.versions]
    rows.append(("data", f"{manifest.data.name}, sha256 {manifest.data.sha256[:16]}"))
    return rows


def library_default(key: str) -> Any:
    """What `grpo.…` or `lora.…` is where a configuration is silent; `UNKNOWN` of any other key."""
    section, _, field = key.partition(".")
    ours, name = LIBRARY_SECTIONS.get(section, ({}, ""))
    return ours.get(field, recorded_defaults(name).get(field, UNKNOWN)) if name else UNKNOWN


def gpu_hours(manifest: Manifest) -> float | None:
    """Seconds in steps times processes, where they ran on GPUs; None on a CPU."""
    if str(manifest.hardware.get("device", "cpu")).startswith("cpu"):
        return None
    return manifest.seconds * int(manifest.hardware.get("processes", 1)) / 3600


def energy_kwh(view: RunView) -> float | None:
    """What the cards used from the first step to the last; None where not every step tells."""
    used = view.log.series("energy_j")
    if not used or len(used) < len(view.log.series("grad_norm")):
        return None
    return sum(joules for _, joules in used) / 3.6e6


def _commit(manifest: Manifest) -> str:
    if manifest.commit is None:
        return "not run from its repository"
    return manifest.commit[:12] + (", with changes" if manifest.dirty else "")


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(without_paths(value))
