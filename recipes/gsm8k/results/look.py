"""How the GSM8K experiment stands while it runs; `look.py WORK` reads its folder, no more."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recipes.gsm8k.stages.plan import Experiment
from recipes.gsm8k.stages.scale import GPU
from xmlgrpo_rewards.console_script import run_command

LAST_LINES = 3  # of each process that runs


def main() -> int:
    """Print what is known, and the last words of what runs."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("work", type=Path)
    work: Path = options.parse_args().work
    show(Experiment(work, work, GPU).results())
    for log in sorted(work.glob("[0-9]*.log")):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        print("\n".join(["...", *lines[-LAST_LINES:]]))
    return 0


def show(results: dict[str, Any]) -> None:
    """A table of what is known."""
    for name, told in results.items():
        if "sampled" in told:
            sampled = told["sampled"]
            entropy = "none" if sampled["entropy"] is None else f"{sampled['entropy']:.3f}"
            print(
                f"{name:12} greedy {told['validation']['accuracy']['shown']}, retold "
                f"{told['validation-retold']['accuracy']['shown']}; T 1: "
                f"{sampled['accuracy']['value']:.1%}, maj@{sampled['samples']} "
                f"{sampled['majority']['shown']}, any {sampled['any']['shown']}, "
                f"entropy {entropy}, commonest {sampled['commonest_answer']['share']:.1%}, "
                f"shown of the right {sampled['shown_among_right'] or 0:.0%}"
                + (f"; chosen: {told['chosen']}" if "chosen" in told else "")
            )
        for row in told.get("curve", []):
            if "validation/strict_accuracy" in row:
                print(
                    f"{name:12} step {row['step']:4} validation "
                    f"{row['validation/strict_accuracy']:.2%}, sampled in training "
                    f"{row.get('sampled/strict', 0):.1%}, entropy {row.get('entropy', 0):.3f}, "
                    f"alike {row.get('frac_reward_zero_std', 0):.0%}, "
                    f"mixed {row.get('draws/mixed_groups', 0):.0%}, "
                    f"tokens that taught {row.get('draws/taught_tokens', 0):.0%}, "
                    f"stories in the band {row.get('draws/in_band', 0):.0f}"
                )


def show_times(stages: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Seconds by stage, all calls together; stages on several GPUs, or side by side, overlap."""
    seconds = {name: sum(one.get("seconds", 0) for one in tries) for name, tries in stages.items()}
    for name, spent in seconds.items():
        ended = stages[name][-1]
        state = "" if ended.get("finished") else f"  not finished: {ended.get('ending')}"
        print(f"{name:24} {spent:8.1f} s{state}")
    print(f"{'all stages':24} {sum(seconds.values()):8.1f} s")


if __name__ == "__main__":
    run_command(main)
