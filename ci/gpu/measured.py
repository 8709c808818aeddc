"""Run one of our console commands in this process and note the GPU memory that it needed.

python ci/gpu/measured.py memory.json xmlgrpo-train --config run.yaml
"""

import atexit
import json
import sys
from importlib.metadata import entry_points
from pathlib import Path

GIB = 2**30


def main() -> None:
    """Call the command as its console script does."""
    target, name = Path(sys.argv[1]), sys.argv[2]
    (script,) = entry_points(group="console_scripts", name=name)
    sys.argv = sys.argv[2:]
    atexit.register(note_memory, target)
    script.load()()


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
