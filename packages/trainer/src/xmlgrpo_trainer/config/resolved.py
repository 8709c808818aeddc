"""What trl and peft made of the configuration, their own defaults included.

`config.yaml` holds what was written; a field that it leaves out is the library's default, which
another release may change.  `resolved.json` in the run folder holds every field as it was, in the
form that the sections `grpo:` and `lora:` take: pasted there, they repeat the run.
"""

import dataclasses
import json
from collections.abc import Collection
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmlgrpo_run.files import write_json
from xmlgrpo_trainer.config.batch import whole
from xmlgrpo_trainer.config.library_fields import RESERVED_GRPO, RESERVED_LORA

if TYPE_CHECKING:
    from peft import PeftModel
    from trl import GRPOConfig

RESOLVED = "resolved.json"
# trl computes it from the batch and steps_per_generation, and refuses to be told both
DERIVED_GRPO = {"generation_batch_size"}
# where a run was, not what it did
PLACES = {"logging_dir", "local_rank", "hub_model_id"}


def hold_resolved(
    folder: Path, arguments: "GRPOConfig", model: "PeftModel", processes: int = 1
) -> None:
    """Write the resolved settings into the run folder, unless they are there.

    A run that goes on has the same ones: another version of a library is refused before
    (`run_dir.hold_identity`), and so is another configuration.

    Args:
        folder: of the run.
        arguments: of the trainer.
        model: with the adapter.
        processes: that share the batch; what is written names the whole of it.
    """
    path = folder / RESOLVED
    if not path.is_file():
        grpo = plain_fields(arguments, RESERVED_GRPO.keys() | DERIVED_GRPO | PLACES)
        lora = plain_fields(model.peft_config["default"], RESERVED_LORA.keys())
        write_json(path, {"grpo": whole(grpo, processes), "lora": lora})


def plain_fields(made: Any, without: Collection[str]) -> dict[str, Any]:
    """The fields of a library's dataclass that JSON can hold, by name, without some.

    A field that it cannot hold is an object that the library made for itself; no configuration
    could have named it.
    """
    fields = {}
    for field in dataclasses.fields(made):
        if field.init and field.name not in without:
            value = _plain(getattr(made, field.name))
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError):
                continue
            fields[field.name] = value
    return fields


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value
