"""Time every reward function on hostile completions: under a millisecond at 100 kB, and linear.

    python -m bench.cpu.rewards           # the table; exit code 1 when a function is over the limit
    python -m bench.cpu.rewards --texts    # and each text at 100 kB

A time is the best of several calls on one completion: what the code costs, not what else the
machine was doing.  Each ratio compares a length with half of it: linear is 2, quadratic is 4.
(Between 25 and 50 kB it is smaller: CPython's `str.find` changes to a faster search at 30,000
characters.)
"""

import argparse
import time
from collections.abc import Callable, Mapping
from itertools import pairwise

from xmlgrpo_rewards.hacks import hostile_texts
from xmlgrpo_rewards.numbers import is_worked, last_number
from xmlgrpo_rewards.reply import parse
from xmlgrpo_rewards.total import CLASSIC

LENGTHS = (12_500, 25_000, 50_000, 100_000)
LIMIT_MS = 1.0
CALLS = 15

Times = Mapping[str, Mapping[str, float]]
"""Function -> text -> milliseconds."""


def timed_functions() -> dict[str, Callable[[str], object]]:
    """What is timed, by name: the readers, then the five reward functions."""

    def reward_call(name: str) -> Callable[[str], object]:
        reward = CLASSIC[name]
        return lambda text: reward(prompts=[""], completions=[text], answer=["13"])

    readers: dict[str, Callable[[str], object]] = {
        "reply.parse": parse,
        "numbers.last_number": last_number,
        "numbers.is_worked": is_worked,
    }
    return readers | {name: reward_call(name) for name in CLASSIC}


def best_ms(function: Callable[[str], object], text: str) -> float:
    """The shortest of `CALLS` calls, in milliseconds."""
    times_s = []
    for _ in range(CALLS):
        started_s = time.perf_counter()
        function(text)
        times_s.append(time.perf_counter() - started_s)
    return min(times_s) * 1000


def measure(length: int) -> Times:
    """Time every function on every hostile text of `length` characters."""
    texts = hostile_texts(length)
    return {
        name: {text_name: best_ms(function, text) for text_name, text in texts.items()}
        for name, function in timed_functions().items()
    }


def line(name: str, by_length_ms: list[float], note: str = "") -> str:
    """One line of the table: times, their ratios, a note."""
    ratios = "".join(f"{later / earlier:5.1f}" for earlier, later in pairwise(by_length_ms))
    return f"{name:<26}{''.join(f'{ms:9.3f}' for ms in by_length_ms)}{ratios}  {note}".rstrip()


def print_worst(by_length: list[Times]) -> None:
    """The slowest text of each function at each length, then the whole set."""
    lengths = [f"{length / 1000:g} kB" for length in LENGTHS]
    heads = "".join(f"{length:>9}" for length in lengths)
    print(f"{'slowest text, ms':<26}{heads}{'   x2' * (len(lengths) - 1)}  at {lengths[-1]}")
    for name in timed_functions():
        longest = by_length[-1][name]
        slowest = max(longest, key=longest.__getitem__)
        print(line(name, [max(times[name].values()) for times in by_length], slowest))
    sums = [sum(sum(texts.values()) for texts in times.values()) for times in by_length]
    print(line("all functions, all texts", sums))


def print_texts(times: Times) -> None:
    """The slowest function for each text."""
    print(f"\n{'each text, ms':<26}{'slowest':>9}  function")
    for text_name in next(iter(times.values())):
        slowest_ms, name = max((texts[text_name], name) for name, texts in times.items())
        print(f"{text_name:<26}{slowest_ms:9.3f}  {name}")


def main() -> int:
    """Measure and print; 1 when a function is over the limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", action="store_true", help="also each text at the full length")
    with_texts = parser.parse_args().texts
    by_length = [measure(length) for length in LENGTHS]
    print_worst(by_length)
    if with_texts:
        print_texts(by_length[-1])
    over = [name for name, texts in by_length[-1].items() if max(texts.values()) >= LIMIT_MS]
    verdict = f"over it: {', '.join(over)}" if over else "held by all"
    print(f"\nlimit of {LIMIT_MS:g} ms at {LENGTHS[-1] / 1000:g} kB: {verdict}")
    return 1 if over else 0


if __name__ == "__main__":
    raise SystemExit(main())
