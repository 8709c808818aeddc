"""The most memory that a piece of work took."""

import resource
from contextlib import suppress
from pathlib import Path
from typing import Self

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): sets the peak to the present size


class PeakMemory:
    """Peak memory between enter and exit, of the GPU where there is one, else of the process.

    The process is counted whole, with Python and its libraries.  Outside Linux the peak cannot be
    reset, so there it is the largest since the process began.
    """

    def __init__(self) -> None:
        self.peak_mib = 0.0

    def __enter__(self) -> Self:
        import torch

        self._on_gpu = torch.cuda.is_available()
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
        with suppress(OSError):  # not Linux, or not allowed: the peak is then since the start
            _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
        return self

    def __exit__(self, *_exception: object) -> None:
        import torch

        if self._on_gpu:
            self.peak_mib = round(torch.cuda.max_memory_allocated() / 2**20, 1)
        if not self.peak_mib:
            self.peak_mib = round(_process_peak_kib() / 1024, 1)


def _process_peak_kib() -> int:
    if _STATUS.exists():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
