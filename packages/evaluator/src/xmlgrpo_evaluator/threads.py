"""How many CPU threads to decode with: as many as pay, and never fewer tokens than with one.

llama.cpp's threads wait for each other by spinning, so a thread that has to share its core with
other work slows all of them down: with two threads on a busy two-core machine a small model was
measured 10 times slower than with one.  A small model gains nothing from threads even on idle
cores.  Neither can be known beforehand, so it is measured, which takes a fraction of a second.
"""

import os
from collections.abc import Callable
from time import perf_counter

_MIN_GAIN = 1.15  # a smaller gain is within the noise, and one thread leaves the cores to others
_ROUNDS = 3


def idle_cores() -> int:
    """Cores this process may use that are not busy with other work; at least 1."""
    try:
        usable = len(os.sched_getaffinity(0))
        load = os.getloadavg()[0]
    except (AttributeError, OSError):  # not Linux
        usable, load = os.cpu_count() or 1, 0.0
    return max(1, usable - round(load))


def fastest_thread_count(
    step: Callable[[int], None], *, most: int, clock: Callable[[], float] = perf_counter
) -> int:
    """The number of threads with which `step` is fastest.

    Args:
        step: does one piece of work with the given number of threads.
        most: the largest number worth trying; the candidates are 1, 2, 4, ... and `most`.
        clock: seconds; replaced in tests.

    Returns:
        1 unless more threads are clearly faster.
    """
    candidates = sorted({2**i for i in range(1, most.bit_length()) if 2**i < most} | {most})
    best, best_s = 1, _seconds(step, 1, clock)
    for count in candidates:
        if count == 1:
            continue
        seconds = _seconds(step, count, clock)
        if seconds * _MIN_GAIN < best_s:
            best, best_s = count, seconds
    return best


def _seconds(step: Callable[[int], None], threads: int, clock: Callable[[], float]) -> float:
    """The median of a few rounds after one that warms up."""
    step(threads)
    taken = []
    for _ in range(_ROUNDS):
        start = clock()
        step(threads)
        taken.append(clock() - start)
    return sorted(taken)[_ROUNDS // 2]
