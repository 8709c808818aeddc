"""Does GRPO raise GSM8K's greedy accuracy of Gemma 3 270M, beside what a sceptic would do instead?

    python -m recipes.gsm8k.learn base screen --gsm8k FOLDER --gguf DIR --out told.json
    python -m recipes.gsm8k.learn arms test --arms grpo-0 more-sft --gsm8k FOLDER --out told.json

Call it again and again: what is finished is kept under `--work`, what was cut off goes on, and
`--out` is written after every stage.  README.md says what the phases are.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from recipes.gsm8k.answers.pass_rates import (
    own_solutions,
    stories_within,
    to_ask_again,
    to_train_on,
)
from recipes.gsm8k.data import rows as rows_module
from recipes.gsm8k.results.look import show, show_times
from recipes.gsm8k.results.on_test_split import seeds_of, tested
from recipes.gsm8k.results.table import write
from recipes.gsm8k.rewards.chain_reward import ROWS
from recipes.gsm8k.stages.plan import ARM, GRPO_ROWS, OWN, SOLVABLE, Budget, Experiment
from recipes.gsm8k.stages.runner import MARGIN_S, Runner
from recipes.gsm8k.stages.scale import GPU, TINY, TINY_SHAPE, Scale
from recipes.gsm8k.weights.warm_start import DONE
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.checkout import code_of
from xmlgrpo_run.files import write_json
from xmlgrpo_run.lock import LOCK, one_writer
from xmlgrpo_trainer.config.run_config import load_config
from xmlgrpo_trainer.resume.record import now
from xmlgrpo_trainer.tiny.model import make_model
from xmlgrpo_trainer.tiny.tokenizer import train_tokenizer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FETCHED = ROOT / ".cache" / "real-gemma"
PHASES = ("base", "screen", "arms", "test")
ENTROPY_LEFT = 0.3  # of a base for GRPO: below, there is little to choose between
POINT = 0.01  # of greedy accuracy that such a base may lie below the best
FETCHING = "fetch"  # the stage of the weights; of a rehearsal, that makes random ones
LIBRARIES = ("torch", "transformers", "trl", "peft")
KEPT_IN_FILE = 4_000  # characters of a failed stage's last lines


class Told:
    """The results so far, in a JSON file that is replaced after every stage."""

    def __init__(self, path: Path, work: Path) -> None:
        self.path, self.kept, self._lock = path, work / "told.json", threading.Lock()
        try:
            self.all: dict[str, Any] = json.loads(self.kept.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self.all = {"begun": now(), "commit": code_of().commit, "stages": {}}
            self.all["versions"] = {name: version(name) for name in LIBRARIES}

    def note(self, name: str, ended: dict[str, Any]) -> None:
        """Keep what became of a stage."""
        ended = {**ended}
        lines = "\n".join(ended.pop("last_lines", []))
        if not ended.get("finished"):
            ended["last_lines"] = lines[-KEPT_IN_FILE:]
        with self._lock:
            tries = self.all["stages"].setdefault(name, [])
            tries.append(ended)
            self._write()

    def add(self, name: str, value: Any) -> None:
        """Keep a result."""
        with self._lock:
            self.all[name] = value
            self._write()

    def _write(self) -> None:
        write_json(self.kept, self.all)
        write_json(self.path, self.all)


def main() -> int:
    """Run the phases that were asked for, one after the other, until one is not finished."""
    asked = _options()
    paths = [str(HERE / "rewards"), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # where gsm8k.yaml's stands
    scale = TINY if asked.small else GPU
    if asked.device:
        scale = replace(scale, device=asked.device)
    if asked.samples:
        scale = replace(scale, samples=asked.samples)
    if scale.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "expected an NVIDIA GPU (measured on an H200 with liger-kernel), got none; "
            "--small rehearses every stage on a CPU in some minutes"
        )
    work = asked.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    os.environ[ROWS] = str(work / GRPO_ROWS)
    with one_writer(work / LOCK, f"another learn.py is at work in {work}; wait for its end"):
        for log in work.glob("[0-9]*.log"):  # of processes that were killed
            log.unlink()
        return _all_phases(asked, work, scale)


def _all_phases(asked: argparse.Namespace, work: Path, scale: Scale) -> int:
    told = Told(asked.out.resolve(), work)
    began = time.monotonic()
    model = _model(asked, work)
    if not asked.model and not asked.gguf:
        told.note(FETCHING, {"seconds": round(time.monotonic() - began, 1), "finished": True})
    folders = (work, asked.gsm8k.resolve(), scale, asked.gguf, model)
    experiment = Experiment(*folders, last=asked.last)
    told.add("calls", [*told.all.get("calls", []), {"at": now(), "words": sys.argv[1:]}])
    end, all_done = time.monotonic() + asked.call_s, True
    for number, phase in enumerate(asked.phases):
        kept_s = scale.test_s if "test" in asked.phases[number + 1 :] else 0
        runner = Runner(work, end - kept_s, told.note)
        is_done = _phase(phase, experiment, runner, told, asked)
        told.add("results", experiment.results())
        if (experiment.work / "test").exists():
            folder, base = experiment.work / "test", told.all["base"]
            told.add("test", tested(folder, base))
            told.add("seeds", seeds_of(folder, base))
            write(told.all, told.path)
        show(experiment.results())
        show_times(told.all["stages"])
        print(f"{phase}: {'finished' if is_done else 'NOT finished: see the stages above'}")
        all_done = all_done and is_done
        if not is_done and not (asked.cut and phase == "arms"):
            break
    return 0 if all_done else 1


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("phases", nargs="+", choices=PHASES, metavar="PHASE", help=str(PHASES))
    options.add_argument("--gsm8k", type=Path, required=True, help="train.jsonl and test.jsonl")
    options.add_argument("--out", type=Path, required=True, help="the JSON file of the results")
    options.add_argument("--work", type=Path, default=Path("outputs/gsm8k"))
    options.add_argument("--gguf", type=Path, help="folder: model.gguf, tokenizer.json, its config")
    options.add_argument(
        "--model",
        type=Path,
        help="in place of --gguf: a model's folder; without either the weights are fetched",
    )
    options.add_argument("--gpus", type=int, default=torch.cuda.device_count() or 1)
    options.add_argument(
        "--abreast", type=int, default=1, help="arms that share a GPU, which fill each other's gaps"
    )
    options.add_argument("--call-s", type=float, default=540, help="seconds until it must be over")
    options.add_argument("--base", help="the warm start that the arms stand on; default: by rule")
    options.add_argument("--arms", nargs="+", default=["grpo-0", "more-sft"])
    options.add_argument(
        "--cut",
        action="store_true",
        help="a run that time cuts off counts, and arms that failed stop no other",
    )
    options.add_argument("--steps", type=int, help="of GRPO; default: what fits by its pace")
    options.add_argument(
        "--last", action="store_true", help="an arm is its last model: nothing is chosen"
    )
    options.add_argument("--sampled", nargs="*", help="arms that are tested by samples; else all")
    options.add_argument("--samples", type=int, help="of each problem there")
    options.add_argument("--small", action="store_true", help="a rehearsal, on a CPU")
    options.add_argument("--device", choices=("cuda", "cpu"), help="for --small on a GPU")
    options.add_argument("--overrides", nargs="*", default=[], help="key=value of gsm8k.yaml")
    asked = options.parse_args()
    for name in ("gpus", "abreast"):
        if getattr(asked, name) < 1:
            options.error(f"--{name}: expected 1 or more, got {getattr(asked, name)}")
    return asked


def _model(asked: argparse.Namespace, work: Path) -> Path | None:
    """The folder to start from: named, fetched, or for a rehearsal made; None where a GGUF is."""
    if asked.model or asked.gguf:
        return Path(asked.model) if asked.model else None
    if not asked.small:
        command = [sys.executable, "-m", "ci.real_gemma.fetch", "--out", str(FETCHED)]
        if subprocess.run(command, check=False, cwd=ROOT).returncode:
            raise UserError("the weights could not be fetched (why is above); or give --model")
        return FETCHED / "base"
    model = work / "random"
    if not (model / "config.json").exists():
        some = rows_module.load(asked.gsm8k / "train.jsonl")[:100]
        texts = [text for row in some for text in (row["question"], row["answer"])]
        tokenizer = train_tokenizer(model, texts, TINY_SHAPE.vocab_size)
        make_model(TINY_SHAPE, tokenizer, seed=0).save_pretrained(model)
    return model


def _phase(
    phase: str, experiment: Experiment, runner: Runner, told: Told, asked: argparse.Namespace
) -> bool:
    if phase == "base":
        ready = runner.run(experiment.preparation())
        if ready:
            runner.run(experiment.warm_starts(asked.gpus, asked.base))
        if asked.base is not None:  # nothing to choose
            return ready and (experiment.start(asked.base) / DONE).exists()
        return ready and runner.run(experiment.accuracies(asked.gpus))
    base = _base(experiment, told, asked.base)
    if phase == "screen":
        if not runner.run(experiment.screening(base, asked.gpus)):
            return False
        told.add("screened", _select(experiment))
        print(json.dumps(told.all["screened"]))
        return True
    if phase == "arms":
        places = (asked.gpus, asked.abreast)
        if "budget" not in told.all and asked.steps is None:
            runner.run(experiment.paces(base, *places, asked.overrides))
        budget = _budget(experiment, told, runner, asked)
        turns = by_turn(asked.arms) if asked.gpus * asked.abreast == 1 else [asked.arms]
        for some in turns:
            budget = replace(budget, arm_s=experiment.run_s() or budget.arm_s)
            words = (base, some, asked.gpus, budget, asked.overrides)
            runner.run(experiment.arms(*words, cut=asked.cut, abreast=asked.abreast))
        return None not in [experiment.arm(base, name) for name in asked.arms]
    return runner.run(experiment.test(base, asked.arms, asked.gpus, asked.sampled))


def by_turn(arms: Sequence[str]) -> list[list[str]]:
    """Runs, then supervised arms: these get the seconds that a run has taken."""
    runs = [name for name in arms if ARM.fullmatch(name)]
    return [some for some in (runs, [name for name in arms if name not in runs]) if some]


def _budget(
    experiment: Experiment, told: Told, runner: Runner, asked: argparse.Namespace
) -> Budget:
    """How long each arm is: what fitted when the first was begun holds for all."""
    if "budget" not in told.all:
        overrides = [*experiment.scale.overrides, *asked.overrides]
        every = load_config(HERE / "gsm8k.yaml", overrides).holdout.every
        turns = -(-len(asked.arms) // (asked.gpus * asked.abreast))
        left_s = (runner.deadline - MARGIN_S - time.monotonic()) / turns
        told.add("budget", asdict(experiment.budget(left_s, every, asked.steps)))
    print(json.dumps(told.all["budget"]))
    return Budget(**told.all["budget"])


def _base(experiment: Experiment, told: Told, wanted: str | None) -> str:
    """The warm start to stand on: once chosen, it stays."""
    if wanted is not None and wanted not in experiment.starts():
        raise UserError(f"--base: expected one of {', '.join(experiment.starts())}, got {wanted!r}")
    chosen = wanted or told.all.get("base") or choose(experiment.results())
    if told.all.get("base", chosen) != chosen and (experiment.work / "grpo.jsonl").exists():
        raise UserError(
            f"--base {chosen}: stories were screened with {told.all['base']} already; "
            "remove screened-*.jsonl and grpo.jsonl from --work to screen again"
        )
    told.add("base", chosen)
    return str(chosen)


def choose(results: dict[str, Any]) -> str:
    """The warm start with the best majority of samples, if it is nearly the best and still varied.

    GRPO teaches the model to say first what it says most often: what the majority gets right is
    what can be gained.  Where entropy is not known (on a CPU) it is passed over.
    """
    starts = {name: told for name, told in results.items() if name.startswith("s")}
    if not starts:
        raise UserError("expected a warm start's accuracy, got none; run the phase `base` first")
    best = max(map(greedy_accuracy, starts.values()))
    varied = {
        name: told
        for name, told in starts.items()
        if greedy_accuracy(told) >= best - POINT
        and (told["sampled"]["entropy"] is None or told["sampled"]["entropy"] >= ENTROPY_LEFT)
    }
    if not varied:
        return max(starts, key=lambda name: greedy_accuracy(starts[name]))
    return max(varied, key=lambda name: varied[name]["sampled"]["majority"]["value"])


def greedy_accuracy(told: dict[str, Any]) -> float:
    """Over both validation sets together."""
    shares = [told["validation"]["accuracy"], told["validation-retold"]["accuracy"]]
    hits, total = (sum(share[name] for share in shares) for name in ("hits", "total"))
    return float(hits / total)


def _select(experiment: Experiment) -> dict[str, Any]:
    """Write what GRPO and rejection sampling train on; how much it is."""
    screened = [row for path in experiment.parts() for row in rows_module.load(path)]
    pool = rows_module.load(experiment.data / rows_module.POOL)
    scale = experiment.scale
    kept = to_train_on(screened, pool, scale.rows_a_story)
    own = list(own_solutions(screened))
    low, high = load_config(HERE / "gsm8k.yaml").sampling.band or (0.0, 1.0)
    again = to_ask_again(kept, low, high)
    for name, some in ((OWN, own), (SOLVABLE, again), (GRPO_ROWS, kept)):
        rows_module.save(experiment.work / name, some)
    samples = sum(row["samples"] for row in screened)
    return {
        "asked": len(screened),
        "right": sum(row["right"] for row in screened) / samples,
        "shown": sum(row["shown"] for row in screened) / samples,
        "mixed": sum(0 < row["right"] < row["samples"] for row in screened) / len(screened),
        "stories": len({row["story"] for row in kept}),
        "rows": len(kept),
        "stories_in_band": len(stories_within(kept, low, high)),
        "to_ask_again": len(again),
        "own_solutions": len(own),
    }


if __name__ == "__main__":
    run_command(main)
