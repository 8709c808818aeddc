"""What trackers are told beside what trl logs itself: wandb, trackio and TensorBoard alike.

trl's own callbacks open and close them, so each is spoken to through its callback.
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

import yaml
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.metrics import read_log
from xmlgrpo_trainer.config.run_config import RunConfig
from xmlgrpo_trainer.doctor.finding import Finding
from xmlgrpo_trainer.doctor.run import check_run

STEP = "train/global_step"  # what transformers' callbacks call the step, the axis of every chart
LEVELS = {"warning": "WARN", "bad": "ERROR"}  # of findings, in wandb's and trackio's words


class Trackio:
    """A run in trackio's database."""

    def __init__(self, library: str = "trackio") -> None:
        self._library: Any = import_module(library)

    def begin(self, config: Mapping[str, Any]) -> None:
        """Beside trl's arguments, which its callback has put there."""
        self._library.config.update({"xmlgrpo": config}, allow_val_change=True)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """One row; trackio counts rows itself, as it does for trl's callback."""
        self._library.log({**values, STEP: step})

    def keep_completions(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Nothing: `completions/` in the run folder has them."""

    def alert(self, step: int, title: str, text: str, level: str) -> None:
        """Kept in the database, and shown on trackio's page."""
        self._library.alert(title, f"step {step}: {text}", self._library.AlertLevel[level])


class Wandb(Trackio):
    """A wandb run: charts, one table of completions that grows, alerts."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self._table: Any = None

    def begin(self, config: Mapping[str, Any]) -> None:
        """Every group has the step as its axis; the best validation stands in the run's row."""
        super().begin(config)
        for group in ("train", "validation", "sampled", "rewards"):
            self._library.define_metric(f"{group}/*", step_metric=STEP)
        self._library.define_metric(
            "validation/strict_accuracy", step_metric=STEP, summary="max,last"
        )

    def keep_completions(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Send the new rows only: wandb adds them to those that it has."""
        shown = [_table_row(row) for row in rows]
        if self._table is None:
            self._table = self._library.Table(columns=list(shown[0]), log_mode="INCREMENTAL")
        for row in shown:
            self._table.add_data(*row.values())
        self.log(step, {"completions": self._table})

    def alert(self, step: int, title: str, text: str, level: str) -> None:
        """Sent on by mail or chat, as the user of wandb has chosen."""
        # trl's callback has opened the run
        self._library.run.alert(title=title, text=f"step {step}: {text}", level=level)


class TensorBoard:
    """Event files."""

    def __init__(self, callback: TensorBoardCallback) -> None:
        self._callback = callback

    def begin(self, config: Mapping[str, Any]) -> None:
        """As text."""
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        self._callback.tb_writer.add_text("xmlgrpo", f"```\n{text}```", 0)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One scalar a series, on the disk at once."""
        for name, value in values.items():
            self._callback.tb_writer.add_scalar(name, value, step)
        self._callback.tb_writer.flush()

    def keep_completions(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Nothing: `completions/` in the run folder has them."""

    def alert(self, step: int, title: str, text: str, level: str) -> None:
        """As text under `doctor`, which has no levels."""
        self._callback.tb_writer.add_text(f"doctor/{title}", text, step)


class Trackers:
    """All that are switched on; none, and then nothing is done."""

    def __init__(self, config: RunConfig, folder: RunFolder, callbacks: Iterable[Any] = ()) -> None:
        """Find them among the trainer's callbacks."""
        self._config, self._folder = config, folder
        self._trackers: list[Trackio | TensorBoard] = []
        self._said: set[str] = set()
        for callback in callbacks:
            if isinstance(callback, WandbCallback):
                self._trackers.append(Wandb())
            elif isinstance(callback, TrackioCallback):
                self._trackers.append(Trackio())
            elif isinstance(callback, TensorBoardCallback):
                self._trackers.append(TensorBoard(callback))

    def begin(self) -> None:
        """Tell the configuration; what a continued run has alerted to before is not said again."""
        for tracker in self._trackers:
            tracker.begin(self._config.model_dump(mode="json"))
        if self._trackers:
            self._said = {_title(finding) for finding in self._findings()}

    def log(self, step: int, values: Mapping[str, float | None]) -> None:
        """Log to all of them what trl does not log; what is no number is left out."""
        numbers = {name: value for name, value in values.items() if value is not None}
        for tracker in self._trackers:
            tracker.log(step, numbers)

    def keep_completions(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add completions, with what each reward function paid for them."""
        for tracker in self._trackers if rows else ():
            tracker.keep_completions(step, rows)

    def alert(self, step: int) -> None:
        """Alert to each of the doctor's findings that is new."""
        for finding in self._findings() if self._trackers else ():
            title = _title(finding)
            if title in self._said:
                continue
            self._said.add(title)
            text = f"{finding.text} -> {finding.advice}" if finding.advice else finding.text
            for tracker in self._trackers:
                tracker.alert(step, title, text, LEVELS[finding.level])

    def _findings(self) -> list[Finding]:
        found = check_run(read_log(self._folder.metrics))
        return [finding for finding in found if finding.level in LEVELS]


def _title(finding: Finding) -> str:
    return f"{finding.what} ({finding.level})"


def _table_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `completions/` as a table's: one column a reward part, and their texts."""
    paid = {f"rewards/{name}": score for name, score in row["scores"].items()}
    names = ("step", "id", "question", "gold", "completion", "strict_correct", "note")
    return {**{name: row[name] for name in names}, **paid}
