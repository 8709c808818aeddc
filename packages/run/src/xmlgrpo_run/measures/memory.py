"""The most memory that was in use: of the GPU where one is used, else of this process."""

import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

_PROCESS_STATUS = Path("/proc/self/status")
_CLEAR_PEAK = Path("/proc/self/clear_refs"), "5"  # proc(5): sets the peak to the present size


def reset_peak_memory() -> None:
    """Let `peak_memory_mib` count from now on; outside Linux it counts from the process's start."""
    if (torch := _torch()) and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        path, value = _CLEAR_PEAK
        path.write_text(value, encoding="ascii")


def peak_memory_mib() -> float:
    """Peak memory of the GPU where it was used, else of the process with Python and libraries."""
    torch = _torch()
    if torch and torch.cuda.is_available() and (on_gpu := torch.cuda.max_memory_allocated()):
        return round(float(on_gpu) / 2**20, 1)
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if _PROCESS_STATUS.exists():
        for line in _PROCESS_STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                kib = int(line.split()[1])
    return round(kib / 1024, 1)


def _torch() -> Any:
    """The library where it is loaded; without it no GPU is used."""
    return sys.modules.get("torch")
