"""The manifest of a finished run, as training leaves it, for tests of what comes after training."""

from pathlib import Path
from typing import Any

from xmlgrpo_rewards.reply import FORMAT_VERSION
from xmlgrpo_run.digests import model_digest
from xmlgrpo_run.files import write_sealed
from xmlgrpo_run.folder import MERGE_RECORD, RunFolder
from xmlgrpo_run.manifest import (
    Base,
    Data,
    HeldOut,
    Manifest,
    Place,
    files_of_base,
    files_of_run,
    write_manifest,
)


def base_of(run: RunFolder, base: Path | str, /, **changes: Any) -> Base:
    """The base of a run: a folder, or an id of the Hub."""
    facts = {
        "name": str(base),
        "revision": None,
        "place": Place.of(base, run) if isinstance(base, Path) else None,
        "dtype": "float32",
        "quantized_4bit": False,
        "model_class": "Gemma3ForCausalLM",
        "tiny": False,
        "files": files_of_base(base) if isinstance(base, Path) else {},
    }
    return Base(**{**facts, **changes})


def data_of(**changes: Any) -> Data:
    """The problems of a run."""
    facts = {
        "source": "generated",
        "name": "problems generated on the spot",
        "revision": None,
        "place": None,
        "sha256": "27c1" * 16,
        "train_rows": 2000,
        "validation_rows": 200,
        "holdout_rows": 500,
        "dropped_long": 0,
        "repeated": 0,
    }
    return Data(**{**facts, **changes})


def finished(run: RunFolder, base: Path | str, /, **changes: Any) -> Manifest:
    """Write the manifest of a run over this base; `changes` are fields of it."""
    facts = {
        "run": run.name,
        "finished": "2026-11-30T09:14:46Z",
        "task": "gsm8k",
        "format_version": FORMAT_VERSION,
        "base": base_of(run, base),
        "adapter": model_digest(run.adapter) or "",
        "backend": "plain",
        "rollout": "graph",
        "seed": 0,
        "steps": 60,
        "best_step": 50,
        "seconds": 151.0,
        "max_prompt_tokens": 256,
        "max_completion_tokens": 80,
        "max_reply_tokens": 80,
        "data": data_of(),
        "rewards": {"correctness_reward_func": 1.0},
        "config": {"seed": 0},
        "config_sha256": "ab12" * 16,
        "commit": None,
        "dirty": False,
        "versions": {"torch": "2.13.0"},
        "hardware": {"device": "cpu", "cores": 2, "threads": 2, "processes": 1},
        "holdout": HeldOut(500, {"mean_tokens": 4.8}, {"mean_tokens": 37.2}),
        "files": files_of_run(run),
    }
    manifest = Manifest(**{**facts, **changes})
    write_manifest(run, manifest)
    return manifest


def compared(merged: Path) -> None:
    """Say of a merged folder, as merge does, that it is the one compared with the adapter."""
    record = {"fingerprint": model_digest(merged), "files": files_of_base(merged)}
    write_sealed(merged / MERGE_RECORD, record)
