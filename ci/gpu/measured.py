"""Run one of our console commands in this process and note the GPU memory that it needed.

python ci/gpu/measured.py memory.json xmlgrpo-train --config run.yaml
"""

import argparse
import atexit
import json
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

GIB = 2**30


def main() -> None:
    """Read the command line, then call the command."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_command(made)
    call(made.parse_args())


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the file, the command and its words to a command line."""
    parser.add_argument("memory", type=Path, help="the JSON file of the peaks")
    parser.add_argument("command", type=console_script, help="such as xmlgrpo-train")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="of the command")


def console_script(name: str) -> EntryPoint:
    """The installed command of this name."""
    found = tuple(entry_points(group="console_scripts", name=name))
    if not found:
        raise argparse.ArgumentTypeError(f"expected an installed command, got {name!r}")
    return found[0]


def call(asked: argparse.Namespace) -> None:
    """Call the command as its console script does."""
    sys.argv = [asked.command.name, *asked.words]
    atexit.register(note_memory, asked.memory)
    asked.command.load()()


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
