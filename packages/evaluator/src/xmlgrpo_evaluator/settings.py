"""One evaluation: which model, asked how, where the result goes; and what of it a run decides."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

from xmlgrpo_evaluator.identity import plain
from xmlgrpo_evaluator.models import Model
from xmlgrpo_rewards.console_script import LARGEST_SEED
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.reply import FORMAT_VERSION
from xmlgrpo_rewards.rows import files_beside
from xmlgrpo_rewards.task import DEFAULT_TASK, data_variable, get_task
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import Manifest, read_manifest, require_as_trained, run_around

ENGINES = ("auto", "generate", "graph")
OWN_FORM = "_xml"  # gsm8k, a task of xmlgrpo_rewards -> gsm8k_xml, lm-eval's name of it
REPEATED = "_k"  # gsm8k_xml -> gsm8k_xml_k: the form of a task with several replies per item
DEFAULT_ASKED = f"{DEFAULT_TASK}{OWN_FORM}"
MOST_SAMPLES, MOST_TOKENS = 10_000, 10_000_000


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """What is asked, and how."""

    tasks: tuple[str, ...] = (DEFAULT_ASKED,)  # lm-eval's names
    own_task: str = DEFAULT_ASKED  # asked where none is named, and left out of results' names
    limit: int | None = None  # only the first items of each task
    seed: int = 0  # of sampled replies and of shots
    k: int = 1  # sampled replies per item, beside the greedy one; with 1 there are none
    temperature: float = 1.0  # of sampled replies
    max_new_tokens: int = 1024  # of a reply
    batch_size: int | str | None = None  # a number, `auto`, or None for the backend's default
    engine: str = "auto"  # of an HF model; `generate` is lm-eval's own call
    chat_template: bool = True
    check_batch: int = 4  # items asked again alone, to see that batching changes nothing
    data: Path | None = None  # items: a folder with a test split, or a file of rows
    include_path: tuple[Path, ...] = ()  # folders with further lm-eval tasks
    harness: Mapping[str, Any] = field(default_factory=dict)  # for lm-eval's `simple_evaluate`
    model_args: Mapping[str, Any] = field(default_factory=dict)  # for the lm-eval model

    def __post_init__(self) -> None:
        self._check_counts()
        if not 0 < self.temperature < inf:
            raise UserError(
                f"--temperature: expected a number above 0, got {self.temperature:g}; greedy "
                "replies are asked for in any case"
            )
        if self.temperature != 1 and self.k == 1:
            raise UserError("--temperature is of sampled replies; say how many, as in --k 16")
        if self.check_batch < 0:
            raise UserError(f"--check-batch: expected 0 or more items, got {self.check_batch}")
        if self.engine not in ENGINES:
            raise UserError(f"--engine: expected one of {', '.join(ENGINES)}, got {self.engine!r}")
        if "engine" in self.model_args:
            raise UserError("the engine is chosen with --engine, not with --model_args engine=")
        size = "auto" if self.batch_size is None else str(self.batch_size)
        if not size.startswith("auto") and not (size.isdecimal() and 0 < int(size) < 1e6):
            raise UserError(
                f"--batch-size: expected a whole number above 0 or 'auto', got {self.batch_size!r}"
            )
        if self.data and not self.data.exists():
            raise UserError(f"--data: nothing at {self.data}; name a folder or a file of rows")

    def _check_counts(self) -> None:
        counts = {"limit": self.limit, "k": self.k, "max-new-tokens": self.max_new_tokens}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise UserError(f"--{name}: expected a whole number above 0, got {value}")
        bounded = {
            "k": (self.k, MOST_SAMPLES),
            "max-new-tokens": (self.max_new_tokens, MOST_TOKENS),
            "seed": (self.seed, LARGEST_SEED),
        }
        for name, (number, most) in bounded.items():
            if not 0 <= number <= most:
                raise UserError(f"--{name}: expected 0 to {most:,}, got {number}")

    def result_file(self, folder: Path, label: str) -> Path:
        """The file of a result: `tuned.json` with default settings, else the name has them."""
        parts = [label]
        parts += self.tasks if self.tasks != (self.own_task,) else []
        parts += [f"n{self.limit}"] if self.limit else []
        parts += [f"k{self.k}"] if self.k > 1 else []
        parts += [f"t{self.temperature:g}"] if self.temperature != 1 else []
        parts += [f"s{self.seed}"] if self.seed else []
        return folder / f"{'-'.join(parts)}.json"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model, how it is asked, and the file of the result."""

    model: Model
    settings: EvaluationSettings
    out: Path

    @property
    def journal(self) -> Path:
        """Where the replies are kept as soon as they are written."""
        return self.out.with_name(f"{self.out.stem}.replies.jsonl")

    def identity(self, data_digest: str | None) -> dict[str, Any]:
        """Which model is asked what and how: another evaluation differs in it; JSON values.

        The batch size is not part of it: it must not matter, and an evaluation that ran out of
        memory is continued with a smaller one.

        Args:
            data_digest: of the local items, whether `data` or the environment named them.
        """
        asked = self.settings
        identity: dict[str, Any] = {
            "model": self.model.identity(),
            "engine": asked.engine,
            "tasks": asked.tasks,
            "limit": asked.limit,
            "seed": asked.seed,
            "k": asked.k,
            "max_new_tokens": asked.max_new_tokens,
            "chat_template": asked.chat_template,
            "data": data_digest,
            "format_version": FORMAT_VERSION,
            "harness": asked.harness,
            "model_args": asked.model_args,
        }
        if self.model.backend != "hf":
            del identity["engine"]
        if asked.k > 1:
            identity["temperature"] = asked.temperature
        return dict(plain(identity))


def what_is_kept(evaluations: Sequence[Evaluation]) -> str:
    """What Ctrl-C says between the replies of some models, by the results that are on the disk."""
    finished = [each.model.label for each in evaluations if each.out.is_file()]
    left = [each.model.label for each in evaluations if each.model.label not in finished]
    kept = f"finished and kept: {', '.join(finished)}" if finished else "no model was finished"
    return f"{kept}; the same command {f'goes on with {left[0]}' if left else 'shows them'}"


def greedy_alone(settings: EvaluationSettings) -> EvaluationSettings:
    """The same without sampled replies."""
    return replace(settings, k=1, temperature=1.0)


def run_settings(
    run: RunFolder, manifest: Manifest, given: Mapping[str, Any]
) -> EvaluationSettings:
    """Settings in which the run decides what nobody has named.

    Replies may be as long as in the run's own held-out test, so that both numbers are of one kind.

    Raises:
        UserError: the run's task is not installed here, or its own items are missing.
    """
    own = f"{get_task(manifest.task).name}{OWN_FORM}"
    decided = {"tasks": (own,), "own_task": own, "max_new_tokens": manifest.max_reply_tokens}
    settings = EvaluationSettings(**{**decided, **given})
    if settings.data is None and settings.tasks == (own,):
        return replace(settings, data=own_items(run, manifest))
    return settings


def model_settings(model: str, given: Mapping[str, Any]) -> EvaluationSettings:
    """Settings for a model that is named by itself.

    One that lies in a run's folder is asked that run's task, and its items too unless the
    environment names some.

    Raises:
        UserError: as `run_settings`.
    """
    run = run_around(model)
    if run is None:
        return EvaluationSettings(**given)
    manifest = read_manifest(run)
    own = f"{get_task(manifest.task).name}{OWN_FORM}"
    settings = EvaluationSettings(**{"tasks": (own,), "own_task": own, **given})
    elsewhere = settings.data or os.environ.get(data_variable(manifest.task))
    if elsewhere or settings.tasks != (own,):
        return settings
    return replace(settings, data=own_items(run, manifest))


def own_items(run: RunFolder, manifest: Manifest) -> Path | None:
    """The items that a run is asked; None where the environment or the Hub has them.

    A run on generated problems is asked its held-out ones.  A run on local rows is asked the test
    split beside them; without one, what the environment names; else its held-out ones too.

    Raises:
        UserError: the held-out ones are wanted, and missing.
    """
    source, place = manifest.data.source, manifest.data.place
    if source == "hub":
        return None
    if source == "json":
        rows = place and place.now(run)
        if rows and (test := _test_split(rows, manifest.task)):
            return test
        if os.environ.get(data_variable(manifest.task)):
            return None
    if not run.holdout_items.is_file():
        what = "generated problems" if source == "generated" else "local rows without a test.jsonl"
        raise UserError(
            f"{run.root} was trained on {what}, and its held-out problems ({run.holdout_items}) "
            "are missing; name rows to ask with --data FILE.jsonl"
        )
    return require_as_trained(run, manifest, run.holdout_items)


def _test_split(rows: Path, task: str) -> Path | None:
    """The test split in the folder of rows, or beside their file: its file, or the folder."""
    config = get_task(task).dataset_config if rows.is_dir() else None
    files = files_beside(rows, "test", "data.path", config)
    if len(files) > 1:
        return rows if rows.is_dir() else rows.parent
    return files[0] if files else None
