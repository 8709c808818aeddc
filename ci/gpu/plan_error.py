"""The error of `make plan`: every measured figure beside the plan's of the same run.

    python ci/gpu/plan_error.py docs/measured/*.json --out plan-error.json

Needs no GPU; `comparisons.py` says what is compared.
"""

import argparse
import dataclasses
from pathlib import Path

from comparisons import Comparison, compare

from xmlgrpo_rewards.errors import run_command
from xmlgrpo_run.files import write_json


def table(comparisons: list[Comparison]) -> str:
    """Markdown, a row a figure."""
    head = ["file", "run", "what", "measured", "plan as configured", "error"]
    head += ["with the prompts seen", "error"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for one in comparisons:
        seen, error = "", ""
        if one.seen is not None:
            seen, error = f"{one.seen:.2f}", f"{one.error_percent:+.1f} %"
        run = f"{one.run} ({one.note})" if one.note else one.run
        lines.append(
            f"| {one.file} | {run} | {one.what} | {one.measured:.2f} | {one.configured:.2f} | "
            f"{one.configured_percent:+.1f} % | {seen} | {error} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Compare what the files hold; 1 when there is nothing in them."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("files", type=Path, nargs="+", help="measurements, as JSON")
    made.add_argument("--out", type=Path, help="a JSON file to write too")
    asked = made.parse_args()
    comparisons = [one for path in asked.files for one in compare(path)]
    print(table(comparisons))
    if asked.out:
        rows = [
            dataclasses.asdict(one) | {"error_percent": round(one.error_percent, 1)}
            for one in comparisons
        ]
        write_json(asked.out, {"comparisons": rows})
    return int(not comparisons)


if __name__ == "__main__":
    run_command(main)
