"""Room for the checkpoints, looked for before they are written: at the start, and once it is known.

The weights of the adapter are counted from the model's shape before the model is built or loaded,
and from the model itself afterwards.
"""

import shutil
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config.run_config import RunConfig
from xmlgrpo_trainer.model.load import LORA_DEFAULTS
from xmlgrpo_trainer.plan.shapes import find_shape

BYTES_PER_TRAINED_WEIGHT = 3 * 4  # the weight and AdamW's two moments, in float32
SPARE_GIB = 0.1


def check_room(root: Path, arguments: Any, trained: int) -> None:
    """Refuse to start what would fill the disk.

    Args:
        root: the run folder.
        arguments: trl's.
        trained: weights of the adapter.

    Raises:
        UserError: the checkpoints would not fit where `root` is.
    """
    checkpoints = (arguments.save_total_limit or 10) + 1  # one is written before one is removed
    needed_gib = SPARE_GIB + trained * BYTES_PER_TRAINED_WEIGHT * checkpoints / 2**30
    free_gib = shutil.disk_usage(root).free / 2**30
    if free_gib < needed_gib:
        raise UserError(
            f"{root}: {free_gib:.2f} GiB are free, but the checkpoints of this run need about "
            f"{needed_gib:.2f} GiB; free some space, lower grpo.save_total_limit, or put RUN on "
            "another disk"
        )


def foreseen_weights(config: RunConfig) -> int:
    """Weights of the adapter by the model's shape; 0 where the shape is not known yet."""
    try:
        shape = find_shape(config.model)
    except UserError:
        return 0  # loading the model says what is wrong with it, if anything is
    lora = {**LORA_DEFAULTS, **config.lora}
    return shape.lora_weights(lora["r"], lora["target_modules"])
