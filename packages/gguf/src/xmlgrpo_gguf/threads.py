"""How many CPU threads llama.cpp decodes with: by what is free, not by what there is.

Its threads meet after every operation, so one that has to share its core with other work holds up
all of them.  Gemma 3 270M in Q4_K_M on two busy cores: 50 tokens a second with one thread, 4 with
two that spin while they wait, 38 with two that sleep.  So there are never more threads than free
cores, and, since cores do not stay free, the threads sleep.

Falling asleep has its price.  On two free cores the same model wrote a reply at 48 tokens a second
with one thread and at 42 with two, but read a prompt of 128 tokens at 390 and at 570: threads pay
where much is computed between two meetings, which is in large models and for many tokens at once.
"""

import os
import time
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path

WEIGHTS_A_THREAD = 250_000_000  # times tokens: with fewer, its meetings cost what it computes
SAMPLE_S = 0.25
TICKS_A_SECOND = 100  # of /proc/stat; USER_HZ is 100 on every architecture in use
_IDLE = slice(4, 6)  # idle and waiting for the disk, in a line "cpu0 user nice system idle iowait"


def let_threads_sleep() -> None:
    """Let OpenMP's threads (llama.cpp's, torch's) sleep while they wait, not spin.

    OpenMP reads this when it is loaded: call it before torch or llama_cpp is imported.  What the
    user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def decoding_threads(parameters: int, tokens: int = 1) -> int:
    """The threads to decode with: OMP_NUM_THREADS, or as many as pay and are free.

    Args:
        parameters: number of the model's weights.
        tokens: how many are computed at once: of a prompt, or one each of many sequences.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    pay = parameters * tokens // WEIGHTS_A_THREAD
    return min(pay, free_cores()) if pay > 1 else 1


def free_cores(root: Path = Path("/"), wait: Callable[[float], None] = time.sleep) -> int:
    """Cores that this process may use and that had nothing to do just now; at least 1.

    Takes a quarter of a second (`wait`), in which the caller computes nothing.  proc and sys are
    mounted below `root`.
    """
    try:
        before = _idle_ticks(root)
        wait(SAMPLE_S)
        idle = (_idle_ticks(root) - before) / TICKS_A_SECOND / SAMPLE_S
    except OSError:  # no /proc: not Linux
        idle = os.cpu_count() or 1
    return max(1, int(min(round(idle), cpu_quota(root))))


def usable_cores() -> int:
    """Cores that this process may use, busy or not: for work whose threads do not meet."""
    return max(1, int(min(len(_allowed()), cpu_quota())))


def cpu_quota(root: Path = Path("/")) -> float:
    """CPUs' worth of time that a container or a batch job leaves us; infinite without a limit."""
    return min(_quotas(root), default=inf)


def _quotas(root: Path) -> Iterator[float]:
    """The limit of every control group we are in, of either version of Linux's control groups."""
    groups = root / "proc/self/cgroup"
    for line in groups.read_text().splitlines() if groups.is_file() else ():
        _, controllers, name = line.split(":", 2)
        unified = not controllers
        if not unified and "cpu" not in controllers.split(","):
            continue
        top = root / ("sys/fs/cgroup" if unified else "sys/fs/cgroup/cpu")
        group = top / name.lstrip("/")
        # a container may see its own group as the top, under a name that is the host's
        for folder in (group, *(above for above in group.parents if above.is_relative_to(top))):
            if unified and (folder / "cpu.max").is_file():
                most, period = (folder / "cpu.max").read_text().split()
            elif (folder / "cpu.cfs_quota_us").is_file():
                most = (folder / "cpu.cfs_quota_us").read_text().strip()
                period = (folder / "cpu.cfs_period_us").read_text()
            else:
                continue
            if most not in {"max", "-1"}:
                yield int(most) / int(period)


def _idle_ticks(root: Path) -> int:
    """How long the allowed CPUs have had nothing to do, together, since the machine started."""
    names = {f"cpu{number}" for number in _allowed()}
    rows = (line.split() for line in (root / "proc/stat").read_text().splitlines())
    return sum(sum(map(int, row[_IDLE])) for row in rows if row and row[0] in names)


def _allowed() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))
