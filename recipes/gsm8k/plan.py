"""The stages of the GSM8K experiment: which script is called with what, and what it leaves."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import rows
from lanes import Stage
from scale import Scale
from warm_start import DONE
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import read_manifest
from xmlgrpo_run.metrics import read_log

HERE = Path(__file__).resolve().parent
CONVERTED = "config.json"
HELD_OUT, GRPO_ROWS, OWN = "held-out.jsonl", "grpo.jsonl", "own.jsonl"
ARM = re.compile(r"grpo-(\d+)|more-sft|rejection")
CURVE = (
    *("step", "time", "reward", "reward_std", "frac_reward_zero_std", "entropy", "grad_norm"),
    *("step_time", "completions/mean_length", "sampled/strict", "sampled/worked"),
    *("validation/strict_accuracy", "validation/strict_format"),
    "rewards/chain_reward:correct_by_true_sums/mean",
)
Lanes = list[list[Stage]]


@dataclass(frozen=True, slots=True)
class Experiment:
    """Where everything is, and how large.

    Attributes:
        work: an absolute folder; everything is under it.
        gsm8k: folder of the data set.
        scale: sizes.
        gguf: folder of the weights to convert, or None where `model` is given.
        model: folder of a model to start from.
    """

    work: Path
    gsm8k: Path
    scale: Scale
    gguf: Path | None = None
    model: Path | None = None

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

    def parts(self) -> list[Path]:
        """What the screening left."""
        return sorted(self.work.glob("screened-*.jsonl"))

    def preparation(self) -> Lanes:
        """The weights, and beside them the rows."""
        words = ("rows.py", "--gsm8k", self.gsm8k, "--out", self.data, *self.scale.rows)
        made = [Stage("rows", _script(*words), self.data / rows.VALIDATION_RETOLD)]
        if self.model is not None:
            return [made]
        if self.gguf is None:
            raise UserError("expected weights, got neither --gguf nor --model; give one of them")
        words = ("from_gguf.py", self.gguf.resolve(), self.pretrained)
        return [[Stage("convert", _script(*words), self.pretrained / CONVERTED)], made]

    def warm_starts(self, gpus: int) -> Lanes:
        """Each warm start with its accuracy; the longest has a GPU of its own."""
        lanes: Lanes = [[] for _ in range(gpus)]
        longest_first = sorted(self.scale.warm_starts.items(), key=lambda start: -start[1].seconds)
        busy_s = [0.0] * gpus
        for name, start in longest_first:
            files = [rows.PLAIN, *([rows.RETOLD] if start.retold else [])]
            stage = self._supervised(
                name,
                self.pretrained,
                files,
                lr=start.lr,
                seconds=start.seconds,
                epochs=start.epochs,
            )
            lane = busy_s.index(min(busy_s))
            lanes[lane] += [stage, self._accuracy(name, self.start(name), None, stage.makes)]
            busy_s[lane] += start.seconds
        return lanes

    def screening(self, base: str, gpus: int) -> Lanes:
        """A part of the questions on each GPU."""
        return [
            [
                Stage(
                    f"screen-{part}",
                    _script(
                        *("pass_rates.py", self.start(base), "--rows", self.data / rows.SCREENED),
                        *(
                            "--out",
                            self.work / f"screened-{part}.jsonl",
                            "--part",
                            f"{part}/{gpus}",
                        ),
                        *("--samples", self.scale.screen_samples, "--tokens", self.scale.tokens),
                        *("--seconds", self.scale.screen_s, "--device", self.scale.device),
                    ),
                    self.work / f"screened-{part}.jsonl",
                    least_s=self.scale.screen_s + 30,
                )
            ]
            for part in range(gpus)
        ]

    def arms(self, base: str, names: Sequence[str], gpus: int, overrides: Sequence[str]) -> Lanes:
        """Each arm with its accuracy; they go round the GPUs."""
        lanes: Lanes = [[] for _ in range(gpus)]
        for number, name in enumerate(names):
            lanes[number % gpus] += self._arm(base, name, overrides)
        return lanes

    def test(self, base: str, names: Sequence[str], gpus: int) -> Lanes:
        """The test split, of the first warm start, the base and every arm."""
        lanes: Lanes = [[] for _ in range(gpus)]
        for number, name in enumerate(dict.fromkeys((base, *names, "s0"))):
            folder, adapter = self._model(base, name)
            for k in (1, self.scale.samples):
                lanes[number % gpus].append(self._test(name, folder, adapter, k))
        return lanes

    def results(self) -> dict[str, Any]:
        """What is known of each model, by its name."""
        found: dict[str, Any] = {}
        for path in sorted(self.work.glob("accuracy-*.json")):
            name = path.stem.removeprefix("accuracy-")
            found[name] = json.loads(path.read_text(encoding="utf-8"))
            if (made := self.start(name) / DONE).exists():
                found[name]["trained"] = json.loads(made.read_text(encoding="utf-8"))
        for run in sorted(self.work.glob("grpo-*/metrics.jsonl")):
            values = read_log(run).rows.values()
            told = found.setdefault(run.parent.name, {})
            told["curve"] = [
                {key: row[key] for key in CURVE if key in row and isfinite(row[key])}
                for row in values
            ]
            folder = RunFolder(run.parent)
            told["manifest"] = read_manifest(folder).as_json() if folder.manifest.exists() else None
        return found

    def _arm(self, base: str, name: str, overrides: Sequence[str]) -> list[Stage]:
        match = ARM.fullmatch(name)
        if match is None:
            raise UserError(f"--arms: expected grpo-SEED, more-sft or rejection, got {name!r}")
        if match[1] is not None:
            stage = self._grpo(base, name, int(match[1]), overrides)
        else:
            files = [rows.PLAIN, rows.POOL] if name == "more-sft" else [rows.PLAIN, OWN]
            stage = self._supervised(
                name,
                self.start(base),
                files,
                lr=self.scale.arm_lr,
                seconds=self.scale.arm_s,
                epochs=1e9,
            )
        folder, adapter = self._model(base, name)
        return [stage, self._accuracy(name, folder, adapter, stage.makes)]

    def _model(self, base: str, name: str) -> tuple[Path, Path | None]:
        """A model's folder, and its adapter if it has one."""
        if name.startswith("grpo-"):
            return self.start(base), RunFolder(self.work / name).adapter
        return self.start(name), None

    def _grpo(self, base: str, name: str, seed: int, overrides: Sequence[str]) -> Stage:
        folder = RunFolder(self.work / name)
        held_out = self.work / HELD_OUT
        if not held_out.exists():
            files = (rows.VALIDATION, rows.VALIDATION_RETOLD)
            rows.save(held_out, (row for file in files for row in rows.load(self.data / file)))
        words = (
            *("-m", "xmlgrpo_trainer.cli", "--config", HERE / "gsm8k.yaml"),
            *("--run", folder.root, "--seed", seed),
            f"model.name={self.start(base)}",
            f"data.path={self.work / GRPO_ROWS}",
            f"holdout.path={held_out}",
            f"model.device={self.scale.device}",
            *(*self.scale.overrides, *overrides),
        )
        return Stage(
            name,
            tuple(map(str, words)),
            folder.manifest,
            needs=(self.work / GRPO_ROWS,),
            least_s=60,
            saves=True,
        )

    def _supervised(
        self,
        name: str,
        model: Path,
        files: Iterable[str],
        *,
        lr: float,
        seconds: float,
        epochs: float,
    ) -> Stage:
        paths = [self.work / file if file == OWN else self.data / file for file in files]
        words = (
            *("warm_start.py", model, self.start(name), "--rows", *paths, "--lr", lr),
            *("--seconds", seconds, "--epochs", epochs, "--batch", self.scale.batch),
            *("--device", self.scale.device),
        )
        makes = self.start(name) / DONE
        return Stage(name, _script(*words), makes, needs=tuple(paths), least_s=seconds + 30)

    def _accuracy(self, name: str, model: Path, adapter: Path | None, needs: Path) -> Stage:
        validation = self.data / rows.VALIDATION
        makes = self.work / f"accuracy-{name}.json"
        words = (
            *("accuracy.py", model, *(("--adapter", adapter) if adapter else ()), "--out", makes),
            *("--greedy", validation, self.data / rows.VALIDATION_RETOLD, "--sampled", validation),
            *("--sampled-rows", self.scale.sampled_rows, "--samples", self.scale.samples),
            *("--tokens", self.scale.tokens, "--device", self.scale.device),
        )
        return Stage(f"accuracy of {name}", _script(*words), makes, needs=(needs,))

    def _test(self, name: str, model: Path, adapter: Path | None, k: int) -> Stage:
        makes = self.work / "test" / f"{name}-k{k}.json"
        limit = self.scale.test_sampled_rows if k > 1 else self.scale.test_rows
        sampling = ("--k", k, "--gen_kwargs", "temperature=1.0,top_p=1.0,top_k=0")
        words = (
            *("-m", "xmlgrpo_evaluator.cli", "run", "--model", model, "--out", makes),
            *(("--adapter", adapter) if adapter else ()),
            *(("--limit", limit) if limit else ()),
            *(sampling if k > 1 else ()),
            *("--data", self.gsm8k / "test.jsonl", "--max-new-tokens", self.scale.tokens),
            *("--engine", "graph", "--batch-size", 1024, "--quiet"),
        )
        needs = (adapter or model) / ("adapter_config.json" if adapter else CONVERTED)
        return Stage(f"test of {name}, k {k}", tuple(map(str, words)), makes, needs=(needs,))


def _script(name: object, *words: object) -> tuple[str, ...]:
    return (str(HERE / str(name)), *map(str, words))
