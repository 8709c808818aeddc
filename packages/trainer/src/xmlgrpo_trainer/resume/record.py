"""What a run writes down about itself before its first step, and holds to when it goes on.

`config.yaml` holds what was written; a field that it leaves out is the library's default, which
another release may change.  `resolved.json` holds every field as it was, in the form that the
sections `grpo:` and `lora:` take: pasted there, they repeat the run.  `identity.json` holds what
the configuration does not say: a data file, a model folder or a library can change under it, and
problems once trained on could become held-out ones.
"""

import dataclasses
import json
import os
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.checkout import installed_version
from xmlgrpo_run.digests import changed_since
from xmlgrpo_run.files import read_sealed, write_json, write_sealed, write_text
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import files_of_base
from xmlgrpo_trainer.config.batch import whole
from xmlgrpo_trainer.config.library_fields import RESERVED_GRPO, RESERVED_LORA
from xmlgrpo_trainer.config.run_config import RunConfig, to_yaml
from xmlgrpo_trainer.resume.opening import differences

if TYPE_CHECKING:
    from peft import PeftModel
    from trl import GRPOConfig

VERSIONED = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "unsloth", "vllm")
BASE_FILES = "base model's files"  # in identity.json, each with hash, size and time
# trl computes the first from the batch and steps_per_generation, and refuses both; the others say
# where a run was, not what it did
NOT_RESOLVED = {"generation_batch_size", "logging_dir", "local_rank", "hub_model_id"}


def write_record(
    folder: RunFolder,
    config: RunConfig,
    identity: dict[str, str],
    resolved: Mapping[str, Any],
    base: Path | None = None,
) -> None:
    """Write the record of a run that nothing refuses any more; one that goes on must agree with it.

    Args:
        identity: what the run stands on, beside the configuration.
        resolved: from `resolved_fields`; a run that goes on has the same ones, since its
            configuration and its libraries are the same.
        base: the folder of the base model, whose files must stay as they are; None for a Hub id.

    Raises:
        UserError: the identity differs from the one at the run's start, or its record is damaged.
    """
    begun = folder.identity.exists() or folder.identity.is_symlink()
    if begun:
        _refuse_another_start(folder, identity, base)
    write_text(folder.config, to_yaml(config))
    if not begun:
        files = files_of_base(base) if base else {}
        write_sealed(folder.identity, {**identity, BASE_FILES: files})
    if not folder.resolved.is_file():
        write_json(folder.resolved, resolved)


def _refuse_another_start(folder: RunFolder, identity: dict[str, str], base: Path | None) -> None:
    before = read_sealed(folder.identity)
    files = before.pop(BASE_FILES, {})
    changed = differences(before, identity) or (base and changed_since(base, files))
    if changed:
        raise UserError(
            f"{folder.root} was started with other settings or data ({changed}); restore them to "
            "continue, or name another RUN"
        )


def resolved_fields(
    arguments: "GRPOConfig", model: "PeftModel", processes: int = 1
) -> dict[str, Any]:
    """What trl and peft made of the sections, by section; of several processes the whole batch."""
    grpo = _plain_fields(arguments, RESERVED_GRPO.keys() | NOT_RESOLVED)
    lora = _plain_fields(model.peft_config["default"], RESERVED_LORA.keys())
    return {"grpo": whole(grpo, processes), "lora": lora}


def _plain_fields(made: Any, without: Collection[str]) -> dict[str, Any]:
    """The fields of a library's dataclass that JSON can hold.

    A field that it cannot hold is an object that the library made for itself; no configuration
    could have named it.
    """
    fields = {}
    for field in dataclasses.fields(made):
        if not field.init or field.name in without:
            continue
        value = getattr(made, field.name)
        if isinstance(value, Enum):
            value = value.value
        elif isinstance(value, set | frozenset):
            value = sorted(value)
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            continue
        fields[field.name] = value
    return fields


def versions() -> dict[str, str]:
    """The versions of what a result depends on."""
    return {name: found for name in VERSIONED if (found := installed_version(name))}


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def hardware(device: str) -> dict[str, Any]:
    """The device a run used, and how many CPU cores it could use."""
    import torch

    name = torch.cuda.get_device_name(0) if device == "cuda" else "cpu"
    return {
        "device": name,
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
    }
