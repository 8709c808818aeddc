"""Memory and disk: failures that reach us in many libraries' own ways, told in one sentence."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from xmlgrpo_rewards.errors import UserError

FULL_BELOW_MIB = 16
FULL_WORDS = ("no space left", "os error 28", "disk quota", "file too large", "os error 27")


@contextmanager
def failures_in_words(root: Path) -> Iterator[None]:
    """Turn out-of-memory and a full disk into a `UserError`; everything else passes through.

    safetensors and torch.save have errors of their own for a full disk, and not an `OSError`.

    Args:
        root: the run folder, for a look at its disk.
    """
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
        if not _is_disk_full(error, root):
            raise
        raise UserError(
            f"no space left on the disk of {root} ({str(error).splitlines()[0][:200]}); earlier "
            "checkpoints are kept. Free some space and run the same command again to continue"
        ) from error


def _is_disk_full(error: Exception, root: Path) -> bool:
    if any(words in str(error).lower() for words in FULL_WORDS):
        return True
    # torch.save says only that a write failed
    return isinstance(error, RuntimeError | OSError) and (
        "write" in str(error).lower() and shutil.disk_usage(root).free < FULL_BELOW_MIB * 2**20
    )
