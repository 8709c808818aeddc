"""Every backend, number type and rollout engine through our own commands: train, merge, compare.

    python ci/gpu/end_to_end.py --gsm8k folder-with-train.jsonl --out end-to-end.json

The model has the true Gemma 3 1B shape and random weights, made on the spot; nothing is
downloaded.  Each run is a process of its own with a time limit.  What is known is written after
every run, so that one that is cut off keeps what it has.
"""

import argparse
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from child import run_child
from model_folder import given_or_made
from variants import VARIANTS, Variant, Work, configuration

from xmlgrpo_rewards.errors import run_command
from xmlgrpo_run.files import write_json
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.metrics import read_log
from xmlgrpo_trainer.run.folder import versions

HERE = Path(__file__).resolve().parent
LEAST_S = 30  # with less time left, nothing is started
COMPARED_TOKENS = 16  # of each reply
EXPECTED = ("config.yaml", "memory.json", "run", "unsloth")  # what a training may write


@dataclass(slots=True)
class Bench:
    """What all runs share.

    Attributes:
        model: folder of the random model.
        gsm8k: folder of the problems.
        folder: for run folders and whatever the libraries write.
        work: how much a run does.
        limit_s: longest training or merge.
        deadline: when all must be over, by `time.monotonic`.
        out: the JSON file.
        found: its contents.
    """

    model: Path
    gsm8k: Path
    folder: Path
    work: Work
    limit_s: float
    deadline: float
    out: Path
    found: dict[str, Any]
    writing: threading.Lock = field(default_factory=threading.Lock)

    def seconds_left(self) -> float:
        """For the next process."""
        return min(self.limit_s, self.deadline - time.monotonic())

    def note(self, variant: Variant, **results: Any) -> None:
        """Add to a run's results, and write them all."""
        with self.writing:
            self.found["runs"].setdefault(variant.name, {}).update(results)
            write_json(self.out, self.found)


def train(bench: Bench, variant: Variant) -> bool:
    """Train one variant; whether it finished."""
    place = bench.folder / variant.name
    place.mkdir(parents=True, exist_ok=True)
    config = place / "config.yaml"
    written = configuration(variant, bench.model, bench.gsm8k, bench.work)
    config.write_text(yaml.safe_dump(written, sort_keys=False), encoding="utf-8")
    memory = place / "memory.json"
    run = RunFolder(place / "run")
    command = ["xmlgrpo-train", "--config", str(config), "--run", str(run.root)]
    environment = {"UNSLOTH_COMPILE_LOCATION": str(place / "unsloth"), **variant.environment}
    ended = run_child(
        [str(HERE / "measured.py"), str(memory), *command],
        cwd=place,
        environment=environment,
        limit_s=bench.seconds_left(),
    )
    rows = read_log(run.metrics).rows
    result: dict[str, Any] = {
        **ended,
        "step_s": [row.get("step_time") for step, row in rows.items() if step > 0],
        "loss": [row.get("loss") for step, row in rows.items() if step > 0],
        "grad_norm": [row.get("grad_norm") for step, row in rows.items() if step > 0],
        "mismatch": [
            row.get("sampling/sampling_logp_difference/mean")
            for step, row in rows.items()
            if step > 0
        ],
    }
    if memory.is_file():
        result["memory"] = json.loads(memory.read_text(encoding="utf-8"))
    if run.manifest.is_file():
        manifest = run.read_manifest()
        result |= {
            key: manifest[key] for key in ("backend", "rollout", "base", "versions", "hardware")
        }
    result["left_behind"] = sorted(p.name for p in place.iterdir() if p.name not in EXPECTED)
    bench.note(variant, environment=variant.environment, train=result)
    tell(variant, "train", result)
    return bool(ended["exit_code"] == 0 and run.manifest.is_file())


def merge(bench: Bench, variant: Variant) -> None:
    """Merge what was trained into the 16-bit base, by the command that compares both.

    In float32 the merged model must answer as the adapter does.  In the number type that was
    trained in, the result is only noted: the best two of random weights' 262,144 tokens are so
    near one another that rounding decides between them.
    """
    place = bench.folder / variant.name
    run = RunFolder(place / "run")
    for dtype in dict.fromkeys((run.read_manifest()["base"]["dtype"], "float32")):
        out = place / f"merged-{dtype}"
        command = ["xmlgrpo-export", "merge", "--run", str(run.root), "--out", str(out)]
        command += ["--dtype", dtype, "--new-tokens", str(COMPARED_TOKENS)]
        result = run_child(
            [str(HERE / "measured.py"), str(place / "merge-memory.json"), *command],
            cwd=place,
            environment={},
            limit_s=bench.seconds_left(),
        )
        for folder in (out, out.with_name(f"{out.name}.rejected")):
            record = folder / "merge.json"
            if record.is_file():
                result["parity"] = json.loads(record.read_text(encoding="utf-8"))["parity"]
            shutil.rmtree(folder, ignore_errors=True)  # gigabytes, and nothing more is asked of it
        bench.note(variant, **{f"merge_{dtype}": result})
        tell(variant, f"merge {dtype}", result)


def tell(variant: Variant, what: str, result: dict[str, Any]) -> None:
    """Print one line of a result, and the last words of what failed."""
    steps = [f"{seconds:.2f}" for seconds in result.get("step_s", ()) if seconds is not None]
    shown = {
        "steps (s)": " ".join(steps),
        "peak (GiB)": result.get("memory", {}).get("allocated_gib"),
        "parity": result.get("parity", {}).get("found"),
    }
    told = "  ".join(f"{name} {value}" for name, value in shown.items() if value)
    word = "ok" if result["exit_code"] == 0 else f"FAILED ({result['ending']})"
    print(f"{variant.name:26} {what:14} {word}  {result['seconds']:.0f} s  {told}", flush=True)
    if result["exit_code"] != 0:
        print("\n".join(f"    {line}" for line in result["last_lines"][-12:]), flush=True)


def run_all(bench: Bench, variants: Sequence[Variant], jobs: int) -> bool:
    """Train all, then merge all that finished; whether everything went well."""
    trained = in_parallel(lambda variant: train(bench, variant), variants, bench, jobs)
    finished = [v for v, ended_well in zip(variants, trained, strict=True) if ended_well]
    in_parallel(lambda variant: merge(bench, variant), finished, bench, jobs)
    runs = bench.found["runs"]
    return all(
        runs.get(v.name, {}).get("merge_float32", {}).get("exit_code") == 0 for v in variants
    )


def in_parallel(
    stage: Callable[[Variant], Any], variants: Sequence[Variant], bench: Bench, jobs: int
) -> list[Any]:
    """Call `stage` on each variant, `jobs` at a time, while there is time."""

    def called(variant: Variant) -> Any:
        if bench.seconds_left() < LEAST_S:
            print(f"{variant.name:26} not started: no time left", flush=True)
            return None
        return stage(variant)

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(called, variants))


def further_versions() -> dict[str, str]:
    """Of what decides whether 4 bits and Unsloth work."""
    names = ("unsloth_zoo", "bitsandbytes", "triton", "torchao")
    return {name: version(name) for name in names if find_spec(name) is not None}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--gsm8k", type=Path, required=True, help="folder with train.jsonl")
    made.add_argument("--out", type=Path, required=True, help="the JSON file of the results")
    made.add_argument("--size", default="1b", help="see random_model.py; default: 1b")
    made.add_argument("--model", type=Path, help="use this model folder instead of making one")
    made.add_argument("--only", nargs="+", choices=[v.name for v in VARIANTS], metavar="NAME")
    made.add_argument("--steps", type=int, default=4)
    made.add_argument("--prompts", type=int, default=8, help="a step, 8 completions each")
    made.add_argument("--completion-tokens", type=int, default=64)
    made.add_argument("--limit-s", type=float, default=240, help="longest training or merge")
    made.add_argument("--budget-s", type=float, default=3600, help="of all together")
    made.add_argument(
        "--jobs", type=int, default=1, help="runs at a time; above 1 the seconds mean little"
    )
    return made


def main() -> int:
    """Run what was asked for; 1 when something failed."""
    began = time.monotonic()
    asked = parser().parse_args()
    variants = [v for v in VARIANTS if (v.name in asked.only if asked.only else not v.is_extra)]
    with tempfile.TemporaryDirectory(prefix="end-to-end-") as scratch:
        model = given_or_made(asked.model, asked.size, asked.gsm8k, Path(scratch), asked.limit_s)
        bench = Bench(
            model=model.resolve(),
            gsm8k=asked.gsm8k.resolve(),
            folder=Path(scratch),
            work=Work(asked.steps, asked.prompts, asked.completion_tokens),
            limit_s=asked.limit_s,
            deadline=began + asked.budget_s,
            out=asked.out,
            found={
                "size": asked.size,
                "jobs": asked.jobs,
                "work": {"steps": asked.steps, "prompts": asked.prompts, "completions_each": 8},
                "versions": {**versions(), **further_versions()},
                "runs": {},
            },
        )
        ended_well = run_all(bench, variants, asked.jobs)
    print(f"{asked.out}: {time.monotonic() - began:.0f} s in all")
    return 0 if ended_well else 1


if __name__ == "__main__":
    run_command(main)
