"""Run one of our console commands in this process and note the GPU memory that it needed.

    python -m bench.shared.measured_command memory.json xmlgrpo-train --config run.yaml
    python -m bench.shared.measured_command --card-gib 15.6 memory.json xmlgrpo-train …

With `--card-gib` the GPU is as large as that card: torch's allocator refuses what goes beyond it,
less what a CUDA context takes, and torch answers a question for free memory accordingly.  Without a
GPU nothing is capped.
"""

import argparse
import atexit
import json
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

GIB = 2**30


def main() -> None:
    """Read the command line, set the cap, call the command as its console script does."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--card-gib", type=float, help="what a program can use of a smaller card")
    made.add_argument("memory", type=Path, help="the JSON file of the peaks")
    made.add_argument("command", type=console_script, help="such as xmlgrpo-train")
    made.add_argument("words", nargs=argparse.REMAINDER, help="of the command")
    asked = made.parse_args()
    if asked.card_gib:
        cap(asked.card_gib)
    sys.argv = [asked.command.name, *asked.words]
    atexit.register(note_memory, asked.memory)
    asked.command.load()()


def console_script(name: str) -> EntryPoint:
    """The installed command of this name."""
    found = tuple(entry_points(group="console_scripts", name=name))
    if not found:
        raise argparse.ArgumentTypeError(f"expected an installed command, got {name!r}")
    return found[0]


def cap(card_gib: float) -> None:
    """Make this process's GPU one with `card_gib`."""
    import torch  # noqa: PLC0415 - half a second of every run that is not capped

    from xmlgrpo_trainer.plan.memory import CONTEXT_GIB  # noqa: PLC0415

    if not torch.cuda.is_available():
        return
    room = int((card_gib - CONTEXT_GIB) * GIB)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, room / total), 0)

    def info(_device: Any = None) -> tuple[int, int]:
        return max(0, room - torch.cuda.memory_reserved(0)), int(card_gib * GIB)

    # the rollout engine asks it how many rows have room; it would answer for the whole card
    torch.cuda.mem_get_info = info  # type: ignore[assignment]  # the argument is not looked at


def note_memory(target: Path) -> None:
    """Write the peaks of torch's allocator, in GiB; nothing where no GPU was used."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    peaks = {
        "allocated_gib": round(torch.cuda.max_memory_allocated() / GIB, 3),
        "reserved_gib": round(torch.cuda.max_memory_reserved() / GIB, 3),
    }
    target.write_text(json.dumps(peaks), encoding="utf-8")


if __name__ == "__main__":
    main()
