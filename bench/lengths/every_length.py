"""How far every way of computing a text is from plain mathematics, at every length up to 600.

    python -m bench.lengths.every_length --out docs/measured/lengths-h200.json

Each case is a path (an engine, a pass without gradient, training's pass and the one back), the
heads of a Gemma 3, a number type, a window, cuDNN's attention allowed or not, an adapter or none.
Of each the file says where it is furthest off, by how much, and at which lengths by more than the
limit; so also without our guard against torch's fault (docs/measured/attention-at-32.md).  It is
written after every case.  Exit code 1: a guarded case is over its limit.
"""

import argparse
import json
import statistics
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from bench.lengths.cases import LIMITS, TINY, every_case, lengths_of, limit_of, unguarded_cases
from bench.lengths.paths import PATHS, Case, measure
from xmlgrpo_rewards.console_script import run_command


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--out", type=Path, required=True, help="the JSON file of the results")
    made.add_argument("--only", nargs="+", choices=PATHS, default=list(PATHS), metavar="PATH")
    made.add_argument("--tiny", action="store_true", help="small heads, for a CPU")
    made.add_argument("--budget-s", type=float, default=500, help="nothing is begun after that")
    return made


def main() -> int:
    """Measure, print, write."""
    asked = parser().parse_args()
    began = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cases = [case for case in (*every_case(), *unguarded_cases()) if case.path in asked.only]
    if asked.tiny:
        cases = [replace(case, shape=TINY[case.shape]) for case in cases]
    rows: list[dict[str, Any]] = []
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        "torch": torch.__version__,
        "limits": LIMITS,
        "not_tried": len(cases),
        "measured": rows,
    }
    for case in cases:
        if time.monotonic() - began > asked.budget_s:
            break
        rows.append(row(case, device))
        found["not_tried"] -= 1
        asked.out.write_text(as_text(found), encoding="utf-8")
        told = rows[-1]
        print(
            f"{case.name}: {told['worst']:.4f} at {told['worst_at']}, "
            f"{len(told['over_limit'])} of {told['lengths']} over the limit, {told['seconds']} s",
            flush=True,
        )
    return int(any(told["over_limit"] for told in rows if told["guarded"]))


def row(case: Case, device: torch.device) -> dict[str, Any]:
    """A case and what was found."""
    began = time.monotonic()
    far = measure(case, lengths_of(case), device)
    worst_at = max(far, key=lambda length: far[length])
    return {
        **asdict(case),
        "lengths": len(far),
        "median": round(statistics.median(far.values()), 6),
        "worst": round(far[worst_at], 6),
        "worst_at": worst_at,
        # written so that what is not a number is over the limit, too
        "over_limit": [at for at, one in far.items() if not one <= limit_of(case)],
        "seconds": round(time.monotonic() - began, 1),
    }


def as_text(found: dict[str, Any]) -> str:
    """JSON with a case a line."""
    lines = ",\n".join(f"    {json.dumps(one)}" for one in found["measured"])
    head = json.dumps(
        {name: value for name, value in found.items() if name != "measured"}, indent=2
    )
    return f'{head[:-2]},\n  "measured": [\n{lines}\n  ]\n}}\n'


if __name__ == "__main__":
    raise SystemExit(run_command(main))
