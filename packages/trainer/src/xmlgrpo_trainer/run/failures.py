"""Memory and disk: looked at before, and one sentence when they run out all the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.disk import is_full, require_free

BYTES_PER_TRAINED_WEIGHT = 3 * 4  # the weight and AdamW's two moments, in float32
FULL_WORDS = ("no space left", "os error 28", "disk quota", "file too large", "os error 27")
FAILED_WORDS = ("input/output error", "os error 5", "stale file handle")


def check_room(root: Path, arguments: Any, trained: int) -> None:
    """Refuse to start what would fill the disk of the run folder.

    Args:
        arguments: trl's.
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
    """Turn out-of-memory and a full or failing disk of the run folder into a `UserError`.

    safetensors and torch.save have errors of their own for a full disk, and not an `OSError`.
    """
    import torch

    try:
        yield
    except UserError:
        raise
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"the GPU ran out of memory ({str(error).splitlines()[0]}). In training, lower "
            "grpo.per_device_train_batch_size and raise gradient_accumulation_steps by the same "
            "factor, or lower grpo.max_completion_length; on held-out problems, lower "
            "holdout.batch_size. make plan estimates what fits. Train with these as a new RUN"
        ) from error
    except Exception as error:
        text = str(error).lower()
        # torch.save says only that a write failed
        failed_write = isinstance(error, RuntimeError | OSError) and "write" in text
        is_out_of_space = any(words in text for words in FULL_WORDS)
        if is_out_of_space or (failed_write and is_full(root)):
            what, advice = "no space left on", "Free some space"
        elif any(words in text for words in FAILED_WORDS):
            what, advice = "a read or write failed on", "Look at the disk"
        else:
            raise
        raise UserError(
            f"{what} the disk of {root} ({str(error).splitlines()[0][:200]}); earlier checkpoints "
            f"are kept. {advice} and run the same command again to continue"
        ) from error
