"""Memory and disk: looked at before, and one sentence when they run out all the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.disk import require_free, writing

BYTES_PER_TRAINED_WEIGHT = 3 * 4  # the weight and AdamW's two moments, in float32


def check_room(root: Path, arguments: Any, trained: int) -> None:
    """Refuse to start what would fill the disk of the run folder.

    Args:
        trained: weights of the adapter.

    Raises:
        UserError: the checkpoints would not fit where `root` is.
    """
    checkpoints = (arguments.save_total_limit or 10) + 1  # one is written before one is removed
    require_free(
        root,
        trained * BYTES_PER_TRAINED_WEIGHT * checkpoints,
        "a run with these checkpoints",
        "lower grpo.save_total_limit, or put RUN on another disk",
    )


@contextmanager
def failures_in_words(root: Path) -> Iterator[None]:
    """Turn out-of-memory and a full or failing disk of the run folder into a `UserError`."""
    import torch

    try:
        with writing(root, "earlier checkpoints are kept"):
            yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"the GPU ran out of memory ({str(error).splitlines()[0]}). In training, lower "
            "grpo.per_device_train_batch_size and raise gradient_accumulation_steps by the same "
            "factor, or lower grpo.max_completion_length; on held-out problems, lower "
            "holdout.batch_size. make plan estimates what fits. Train with these as a new RUN"
        ) from error
