"""Run one of our console commands as if its GPU had no more memory than a smaller one.

    python ci/gpu/capped.py 15.6 memory.json xmlgrpo-train --config run.yaml

torch's allocator refuses what goes beyond the memory named (GiB) less what a CUDA context takes,
and torch answers a question for free memory accordingly.  Without a GPU nothing is capped.
"""

import argparse
from typing import Any

import measured
import torch

from xmlgrpo_trainer.plan.memory import CONTEXT_GIB

GIB = 2**30


def main() -> None:
    """Set the cap, then run the command as `measured.py` does."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("memory_gib", type=float, help="of the smaller GPU")
    measured.add_command(made)
    asked = made.parse_args()
    if torch.cuda.is_available():
        cap(asked.memory_gib)
    measured.call(asked)


def cap(memory_gib: float) -> None:
    """Make this process's GPU one with `memory_gib`."""
    room = int((memory_gib - CONTEXT_GIB) * GIB)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, room / total), 0)

    def info(_device: Any = None) -> tuple[int, int]:
        return max(0, room - torch.cuda.memory_reserved(0)), int(memory_gib * GIB)

    # the rollout engine asks it how many rows have room; it would tell of the whole card
    torch.cuda.mem_get_info = info  # type: ignore[assignment]  # the argument is not looked at


if __name__ == "__main__":
    main()
