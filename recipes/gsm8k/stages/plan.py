"""The stages of the GSM8K experiment: which script is called with what, and what it leaves."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path
from statistics import median
from typing import Any

from recipes.gsm8k.data import rows
from recipes.gsm8k.stages.runner import Lane, Stage
from recipes.gsm8k.stages.scale import Scale
from recipes.gsm8k.weights.warm_start import DONE, kept_at
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import read_manifest
from xmlgrpo_run.metrics import read_log
from xmlgrpo_trainer.resume.checkpoints import find_checkpoints

CONFIG = Path(__file__).resolve().parents[1] / "gsm8k.yaml"
CONVERTED = "config.json"
HELD_OUT, GRPO_ROWS, OWN = "held-out.jsonl", "grpo.jsonl", "own.jsonl"
SOLVABLE, MORE_OWN = "solvable.jsonl", "own-more.jsonl"  # for rejection: its questions, and replies
TESTED_AT_ONCE = 4  # on a GPU: most of the time goes to starting
PACE, OWN_SOLUTIONS = "pace", "own solutions"
SETTLED = 4  # the first steps of a run take longer
PAYS_FOR_CHAIN = "rewards.chain_reward:correct_by_true_sums"
# what a run of xmlgrpo-train is paid for, and what it draws, by kind of arm: over gsm8k.yaml
RUNS: dict[str, tuple[str, ...]] = {
    "grpo": (),
    # a control runs to its end, whatever becomes of it
    "random": (f"{PAYS_FOR_CHAIN}=0.0", "rewards.control_reward:coin=1.0", "watch.stop_when=[]"),
    "format": (f"{PAYS_FOR_CHAIN}=0.0", "watch.stop_when=[]"),
    # paid for each step of GSM8K's solutions, and asked more often what is not solved yet
    "steps": ("rewards.chain_reward:steps_met=1.0", "sampling.explore=0.4"),
    "plain": (  # all rows in turn
        *("sampling.band=null", "sampling.rates=null", "sampling.draw=1"),
        *(
            "sampling.explore=0.1",
            "sampling.half_life=null",
        ),  # their defaults, which count as unset
    ),
}
SUPERVISED: dict[str, tuple[str, ...]] = {
    "more-sft": (rows.UNSEEN, rows.POOL),  # with GSM8K's solutions, which GRPO does not see
    "rejection": (rows.PLAIN, OWN, MORE_OWN),
}
ARM = re.compile(rf"({'|'.join(RUNS)})-(\d+)")
CURVE = (
    *("step", "time", "reward", "reward_std", "frac_reward_zero_std", "entropy", "grad_norm"),
    *("step_time", "completions/mean_length", "completions/clipped_ratio"),
    *("sampled/strict", "sampled/strict_format", "sampled/worked"),
    *("draws/taught_tokens", "draws/mixed_groups", "draws/in_band"),
    *("validation/strict_accuracy", "validation/strict_format"),
    "rewards/chain_reward:correct_by_true_sums/mean",
)
Lanes = list[Lane]


@dataclass(frozen=True, slots=True)
class Budget:
    """How long the arms are, decided once.

    Attributes:
        steps: of GRPO.
        arm_s: seconds of a supervised arm: what GRPO's steps and looks take.
        step_s: of a step, as measured or guessed.
    """

    steps: int
    arm_s: float
    step_s: float


@dataclass(frozen=True, slots=True)
class Model:
    """A folder, and perhaps that of an adapter."""

    folder: Path
    adapter: Path | None = None


@dataclass(frozen=True, slots=True)
class Experiment:
    """Where everything is, and how large.

    Attributes:
        work: an absolute folder; everything is under it.
        gsm8k: folder of the data set.
        scale: sizes.
        gguf: folder of the weights to convert, or None where `model` is given.
        model: folder of a model to start from.
        last: each arm is its last model; else the best one by the validation rows.
    """

    work: Path
    gsm8k: Path
    scale: Scale
    gguf: Path | None = None
    model: Path | None = None
    last: bool = False

    @property
    def data(self) -> Path:
        """The folder of the rows."""
        return self.work / "rows"

    @property
    def pretrained(self) -> Path:
        """The model before any warm start."""
        return self.model.resolve() if self.model else self.work / "pretrained"

    def start(self, name: str) -> Path:
        """The folder of a warm start or of a supervised arm."""
        return self.work / name

    def starts(self) -> list[str]:
        """The names of all warm starts, those that are kept on the way included."""
        return [
            folder.name
            for name, start in self.scale.warm_starts.items()
            for folder in (
                *(kept_at(self.start(name), share) for share in start.keep),
                self.start(name),
            )
        ]

    def parts(self) -> list[Path]:
        """What the screening left."""
        return sorted(self.work.glob("screened-*.jsonl"))

    def preparation(self) -> Lanes:
        """The weights, and beside them the rows."""
        words = ("data.rows", "--gsm8k", self.gsm8k, "--out", self.data, *self.scale.rows)
        made = Lane(0, [Stage("rows", _script(*words), self.data / rows.VALIDATION_RETOLD)])
        if self.model is not None:
            return [made]
        if self.gguf is None:
            raise UserError("expected weights, got neither --gguf nor --model; give one of them")
        words = ("weights.from_gguf", self.gguf.resolve(), self.pretrained)
        convert = Stage("convert", _script(*words), self.pretrained / CONVERTED)
        return [Lane(0, [convert]), made]

    def warm_starts(self, gpus: int, only: str | None = None) -> Lanes:
        """Each warm start on its GPU.

        Args:
            only: the one that is wanted; the others are left out.
        """
        wanted = {n: s for n, s in self.scale.warm_starts.items() if only in (None, n)}
        lanes: list[list[Stage]] = [[] for _ in range(gpus)]
        for number, (name, start) in enumerate(wanted.items()):
            lanes[number % gpus].append(
                self._supervised(
                    name,
                    self.pretrained,
                    [self.data / file for file in (rows.PLAIN, rows.RETOLD)],
                    lr=start.lr,
                    seconds=start.seconds,
                    epochs=start.epochs,
                    keep=start.keep,
                )
            )
        return [Lane(gpu, stages) for gpu, stages in enumerate(lanes) if stages]

    def accuracies(self, gpus: int) -> Lanes:
        """Of all warm starts, side by side."""
        return [
            Lane(number % gpus, [self._accuracy(name)]) for number, name in enumerate(self.starts())
        ]

    def screening(self, base: str, gpus: int) -> Lanes:
        """A part of the questions on each GPU."""
        return [Lane(part, [self._screen(base, part, gpus)]) for part in range(gpus)]

    def paces(self, base: str, gpus: int, abreast: int, overrides: Sequence[str]) -> Lanes:
        """A few steps of GRPO, as the arms will be, as many at once as will be.

        Args:
            base: they start from it.
            gpus: how many there are.
            abreast: runs that share a GPU.
            overrides: of gsm8k.yaml.
        """
        data = self.work / GRPO_ROWS
        settings = (f"sampling.rates={data}", *overrides, *self.scale.pace)
        lanes = []
        for place in range(gpus * abreast):
            name = f"{PACE}-{place}"
            words = self._training(base, name, place, data, settings)
            manifest = RunFolder(self.work / name).manifest
            needs = (self.start(base) / DONE, data)
            lanes.append(Lane(place % gpus, [Stage(name, words, manifest, needs=needs)]))
        return lanes

    def step_s(self) -> float:
        """Seconds of a step of GRPO, as measured, or as guessed where it was not."""
        gaps: list[float] = []
        for log in self.work.glob(f"{PACE}-*/metrics.jsonl"):
            times = [time for _, time in read_log(log).series("time")]
            gaps += [after - before for before, after in pairwise(times[SETTLED - 1 :])]
        return median(gaps) if gaps else self.scale.pace_s

    def run_s(self) -> float | None:
        """Seconds of the first finished run of GRPO, its looks included; None before there is one.

        Its start, some 25 s that a supervised arm takes too, does not count.
        """
        for folder in sorted(self.work.glob("grpo-*")):
            run = RunFolder(folder)
            if not run.manifest.exists():
                continue
            log = read_log(run.metrics)
            steps = [time for step, time in log.series("time") if step]
            first_s = log.series("step_time")[0][1] if log.series("step_time") else 0.0
            if steps:
                return round(steps[-1] - steps[0] + first_s, 1)
        return None

    def budget(self, left_s: float, every: int, steps: int | None = None) -> Budget:
        """The steps that are wanted, or what fits into the seconds that are left for one arm.

        Args:
            left_s: seconds.
            every: steps between two validations.
            steps: as many, `Scale.most_steps` at most; their arms' seconds as `Scale.pace_s` has
                them.

        Raises:
            UserError: nothing fits.
        """
        step_s = self.step_s()
        looked_s = step_s + self.scale.look_s / every
        if steps is not None:
            steps = min(steps, self.scale.most_steps)
            return Budget(steps, round(steps * looked_s), round(step_s, 3))
        usable_s = left_s - self.scale.start_s - (0 if self.last else self.scale.pick_s)
        steps = min(int(usable_s / looked_s), self.scale.most_steps)
        if steps < 1:
            raise UserError(f"{left_s:.0f} s are left, too few for arms; raise --call-s")
        return Budget(steps, round(steps * looked_s), round(step_s, 3))

    def arms(
        self,
        base: str,
        names: Sequence[str],
        gpus: int,
        budget: Budget,
        overrides: Sequence[str],
        *,
        cut: bool,
        abreast: int = 1,
    ) -> Lanes:
        """Each arm and the choice among its models; they take turns on the GPUs.

        Args:
            base: they all start from it.
            names: of the arms.
            gpus: how many there are.
            budget: how long the arms are.
            overrides: of gsm8k.yaml.
            cut: whether a run that the time cuts off counts as it is.
            abreast: arms that share a GPU.
        """
        places = gpus * abreast
        turns: list[list[Stage]] = [[] for _ in range(places)]
        for number, name in enumerate(names):
            turns[number % places] += (
                self._run(base, name, budget, overrides, cut=cut)
                if ARM.fullmatch(name)
                else self._supervised_arm(base, name, budget)
            )
        return [Lane(place % gpus, stages) for place, stages in enumerate(turns) if stages]

    def arm(self, base: str, name: str) -> Model | None:
        """What an arm has come to, or what the base is; None where it is not there yet."""
        told = self._told(name)
        if told.exists():
            chosen = json.loads(told.read_text(encoding="utf-8"))
            adapter = chosen.get("adapter")
            return Model(Path(chosen.get("model") or self.start(name)), adapter and Path(adapter))
        if name == base or (self.last and (self.start(name) / DONE).exists()):
            return Model(self.start(name))
        newest = find_checkpoints(RunFolder(self.work / name).checkpoints).newest
        return Model(self.start(base), newest) if self.last and newest else None

    def test(
        self, base: str, names: Sequence[str], gpus: int, sampled: Sequence[str] | None = None
    ) -> Lanes:
        """The test split, of the base and every arm, some side by side.

        Args:
            base: what the arms started from.
            names: of the arms; those that are not there are left out.
            gpus: how many there are.
            sampled: the arms that are asked for samples too, as the base is; None is all.
        """
        found = {name: self.arm(base, name) for name in dict.fromkeys((base, *names))}
        models = {name: model for name, model in found.items() if model is not None}
        stages = [
            *(
                self._test(name, model, self.scale.samples)
                for name, model in models.items()
                if name == base or sampled is None or name in sampled
            ),
            *(self._test(name, model, 1) for name, model in models.items()),
        ]
        places = gpus * TESTED_AT_ONCE
        return [
            Lane(place % gpus, stages[place::places]) for place in range(min(places, len(stages)))
        ]

    def results(self) -> dict[str, Any]:
        """What is known of each model, by its name."""
        found: dict[str, Any] = {}
        for path in sorted(self.work.glob("accuracy-*.json")):
            name = path.stem.removeprefix("accuracy-")
            found[name] = json.loads(path.read_text(encoding="utf-8"))
            if (made := self.start(name) / DONE).exists():
                found[name]["trained"] = json.loads(made.read_text(encoding="utf-8"))
        for run in sorted(self.work.glob("*/metrics.jsonl")):
            values = read_log(run).rows.values()
            told = found.setdefault(run.parent.name, {})
            told["curve"] = [
                {key: row[key] for key in CURVE if key in row and isfinite(row[key])}
                for row in values
            ]
            folder = RunFolder(run.parent)
            told["manifest"] = read_manifest(folder).as_json() if folder.manifest.exists() else None
        return found

    def _told(self, name: str) -> Path:
        """The file of a model's accuracy."""
        return self.work / f"accuracy-{name}.json"

    def _screen(self, base: str, part: int, parts: int) -> Stage:
        makes = self.work / f"screened-{part}.jsonl"
        words = (
            *("answers.pass_rates", self.start(base), "--rows", self.data / rows.SCREENED),
            *("--out", makes, "--part", f"{part}/{parts}"),
            *("--samples", self.scale.screen_samples, "--tokens", self.scale.tokens),
            *("--seconds", self.scale.screen_s, "--device", self.scale.device),
        )
        return Stage(f"screen-{part}", _script(*words), makes, least_s=self.scale.screen_s + 30)

    def _run(
        self, base: str, name: str, budget: Budget, overrides: Sequence[str], *, cut: bool
    ) -> list[Stage]:
        match = ARM.fullmatch(name)
        if match is None:
            raise ValueError(name)
        folder = RunFolder(self.work / name)
        data = self.work / GRPO_ROWS
        rates = f"sampling.rates={data}"
        settings = (f"grpo.max_steps={budget.steps}", rates, *RUNS[match[1]], *overrides)
        stage = Stage(
            name,
            self._training(base, name, int(match[2]), data, settings),
            folder.manifest,
            needs=(data,),
            least_s=60,
            leaves_s=0 if self.last else self.scale.pick_s,
            saves=True,
        )
        if self.last:
            return [stage]
        words = ("--run", folder.root, "--base", self.start(base))
        return [stage, self._pick(name, words, folder.checkpoints if cut else folder.manifest)]

    def _supervised_arm(self, base: str, name: str, budget: Budget) -> list[Stage]:
        if name not in SUPERVISED:
            kinds = ", ".join([*(f"{kind}-SEED" for kind in RUNS), *SUPERVISED])
            raise UserError(f"--arms: expected {kinds}, got {name!r}")
        own = (OWN, MORE_OWN)
        files = [(self.work if file in own else self.data) / file for file in SUPERVISED[name]]
        samples = [self._own_solutions(base, budget)] if MORE_OWN in SUPERVISED[name] else []
        keep = () if self.last else self.scale.arm_keep
        stage = self._supervised(
            name,
            self.start(base),
            files,
            lr=self.scale.arm_lr,
            seconds=budget.arm_s * (1 - self.scale.own_share if samples else 1),
            epochs=self.scale.own_epochs if samples else 1e9,
            keep=keep,
        )
        if self.last:
            return [*samples, stage]
        shares = [kept_at(self.start(name), share) for share in keep]
        words = ("--models", *shares, self.start(name))
        return [*samples, stage, self._pick(name, words, stage.makes)]

    def _own_solutions(self, base: str, budget: Budget) -> Stage:
        """More right replies of the base, to questions of stories that it solves now and then."""
        makes, seconds = self.work / MORE_OWN, budget.arm_s * self.scale.own_share
        words = (
            *("answers.pass_rates", self.start(base), "--rows", self.work / SOLVABLE),
            *("--out", makes, "--solutions"),
            *("--samples", self.scale.screen_samples, "--tokens", self.scale.tokens),
            *("--seconds", seconds, "--device", self.scale.device),
        )
        needs = (self.work / SOLVABLE,)
        return Stage(OWN_SOLUTIONS, _script(*words), makes, needs, least_s=seconds + 30)

    def _training(
        self, model: str, name: str, seed: int, data: Path, settings: Sequence[str]
    ) -> tuple[str, ...]:
        held_out = self.work / HELD_OUT
        if not held_out.exists() and (self.data / rows.VALIDATION_RETOLD).exists():
            files = (rows.VALIDATION, rows.VALIDATION_RETOLD)
            rows.save(held_out, (row for file in files for row in rows.load(self.data / file)))
        words = (
            *("-m", "xmlgrpo_trainer.cli", "--config", CONFIG),
            *("--run", self.work / name, "--seed", seed),
            f"model.name={self.start(model)}",
            f"data.path={data}",
            f"holdout.path={held_out}",
            f"model.device={self.scale.device}",
            *self.scale.overrides,
            *settings,
        )
        return tuple(map(str, words))

    def _supervised(
        self,
        name: str,
        model: Path,
        files: Sequence[Path],
        *,
        lr: float,
        seconds: float,
        epochs: float,
        keep: Sequence[float],
    ) -> Stage:
        words = (
            *("weights.warm_start", model, self.start(name), "--rows", *files, "--lr", lr),
            *("--seconds", seconds, "--epochs", epochs, "--batch", self.scale.batch),
            *("--micro", self.scale.batch),
            *("--device", self.scale.device, *(("--keep", *keep) if keep else ())),
        )
        makes = self.start(name) / DONE
        return Stage(name, _script(*words), makes, needs=tuple(files), least_s=seconds + 20)

    def _accuracy(self, name: str) -> Stage:
        words = (
            "answers.accuracy",
            self.start(name),
            "--out",
            self._told(name),
            *self._questions(),
        )
        needs = (self.start(name) / DONE,)
        return Stage(f"accuracy of {name}", _script(*words), self._told(name), needs=needs)

    def _pick(self, name: str, candidates: Sequence[object], needs: Path) -> Stage:
        words = ("answers.pick", name, "--out", self._told(name), *self._questions(), *candidates)
        return Stage(f"choice of {name}", _script(*words), self._told(name), needs=(needs,))

    def _questions(self) -> tuple[object, ...]:
        validation = self.data / rows.VALIDATION
        return (
            *("--greedy", validation, self.data / rows.VALIDATION_RETOLD),
            *("--sampled-rows", self.scale.sampled_rows, "--samples", self.scale.samples),
            *("--tokens", self.scale.tokens, "--device", self.scale.device),
        )

    def _test(self, name: str, model: Model, k: int) -> Stage:
        makes = self.work / "test" / f"{name}-k{k}.json"
        limit = self.scale.test_sampled_rows if k > 1 else self.scale.test_rows
        sampling = ("--k", k, "--gen_kwargs", "temperature=1.0,top_p=1.0,top_k=0")
        words = (
            *("-m", "xmlgrpo_evaluator.cli", "run", "--model", model.folder, "--out", makes),
            *(("--adapter", model.adapter) if model.adapter else ()),
            *(("--limit", limit) if limit else ()),
            *(sampling if k > 1 else ()),
            *("--data", self.gsm8k / "test.jsonl", "--max-new-tokens", self.scale.tokens),
            *("--engine", "graph", "--batch-size", 1024, "--quiet"),
        )
        return Stage(f"test of {name}, k {k}", tuple(map(str, words)), makes)


def _script(name: object, *words: object) -> tuple[str, ...]:
    return ("-m", f"recipes.gsm8k.{name}", *map(str, words))
