"""Which of an arm's models is its result: the best greedy accuracy on both validation sets.

    python -m recipes.gsm8k.answers.pick NAME --out told.json --run RUN --base BASE --greedy a b
    python -m recipes.gsm8k.answers.pick NAME --out told.json --models M-33 M-67 M --greedy a b

Of a run of GRPO: the last adapter, the one that the run has found best, and the mean of those of
its last third, where the rate is low.  What was chosen is asked for samples too.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.gsm8k.answers.accuracy import greedy, sampled
from recipes.gsm8k.answers.answering import open_model
from recipes.gsm8k.data.rows import load
from recipes.gsm8k.weights.mean_adapter import save_mean
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import write_json
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_trainer.problems.keep_best import read_best
from xmlgrpo_trainer.resume.checkpoints import find_checkpoints, step_of

LAST_PART = 2 / 3  # of the steps: what comes later is averaged
CHOSEN = "chosen"  # in the name of the folder of the adapter that was chosen
Candidate = tuple[Path, Path | None]  # a model's folder, and an adapter's


def main() -> int:
    """Ask every candidate, choose, and write the file."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("name")
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--run", type=Path, help="of GRPO")
    options.add_argument("--base", type=Path, help="of that run")
    options.add_argument("--models", type=Path, nargs="*", default=[], help="folders")
    options.add_argument("--greedy", type=Path, nargs="+", required=True, help="files of rows")
    options.add_argument("--sampled-rows", type=int, default=400)
    options.add_argument("--samples", type=int, default=16)
    options.add_argument("--tokens", type=int, default=256)
    options.add_argument("--device", default="cuda")
    asked = options.parse_args()
    there = [model for model in asked.models if model.exists()]
    candidates: dict[str, Candidate] = {model.name: (model, None) for model in there}
    if asked.run is not None:
        trained = adapters(RunFolder(asked.run))
        candidates |= {kind: (asked.base, adapter) for kind, adapter in trained.items()}
    if not candidates:
        raise UserError(f"expected models or checkpoints of {asked.name}, got none")
    files = [(path.stem, load(path)) for path in asked.greedy]
    found: dict[str, dict[str, Any]] = {}
    for kind, (model, adapter) in candidates.items():
        answering = open_model(model, adapter, asked.device)
        found[kind] = {stem: greedy(answering, rows, asked.tokens) for stem, rows in files}
        print(kind, *(told["accuracy"]["shown"] for told in found[kind].values()), flush=True)
    chosen = best_of(found)
    model, adapter = candidates[chosen]
    answering = open_model(model, adapter, asked.device)
    some = files[0][1][: asked.sampled_rows]
    told: dict[str, Any] = {
        **found[chosen],
        "sampled": sampled(answering, some, asked.samples, asked.tokens),
    }
    told["chosen"], told["model"] = chosen, str(model)
    told["adapter"] = None if adapter is None else str(kept(adapter, asked.run))
    told["candidates"] = {
        kind: {stem: answers["accuracy"] for stem, answers in by_file.items()}
        for kind, by_file in found.items()
    }
    write_json(asked.out, told)
    return 0


def adapters(run: RunFolder) -> dict[str, Path]:
    """The adapters of a run, finished or cut off, by what they are."""
    newest = find_checkpoints(run.checkpoints).newest
    if newest is None:
        return {}
    found = {"last": newest}
    best = read_best(run)
    if best is not None:
        found["best"] = run.best / f"step-{best['step']:05d}"
    late = late_checkpoints(run.checkpoints, step_of(newest))
    if len(late) > 1:
        found["mean"] = run.root / "mean"
        lost = save_mean(late, found["mean"])
        print(f"mean of {len(late)} adapters at their rank: {lost:.2%} is lost", flush=True)
    return found


def late_checkpoints(checkpoints: Path, last: int) -> list[Path]:
    """Those of the last third of the steps, in order."""
    numbered = sorted(checkpoints.glob("checkpoint-*"), key=step_of)
    return [path for path in numbered if LAST_PART * last <= step_of(path) <= last]


def best_of(found: dict[str, dict[str, Any]]) -> str:
    """The candidate with the most right answers; of equal ones the later named."""
    order = list(found)
    return max(order, key=lambda kind: (_hits(found[kind].values()), order.index(kind)))


def _hits(told: Any) -> int:
    return sum(int(answers["accuracy"]["hits"]) for answers in told)


def kept(adapter: Path, run: Path) -> Path:
    """A copy of the adapter that stays when the run goes on."""
    target = run.with_name(f"{run.name}-{CHOSEN}")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    files: Sequence[str] = ("adapter_config.json", "adapter_model.safetensors")
    for name in files:
        shutil.copyfile(adapter / name, target / name)
    return target


if __name__ == "__main__":
    run_command(main)
