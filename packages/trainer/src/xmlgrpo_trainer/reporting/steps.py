"""What a person sees of each step while the model trains, and what is kept of it.

Every logged step becomes one line of `metrics.jsonl` and one line on the screen; every few steps a
reply of the newest batch is shown, so that one can watch the format come first and the working
after it.
"""

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text
from transformers import TrainerCallback

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.grading import grade_all
from xmlgrpo_rewards.prose import printable
from xmlgrpo_rewards.task import Task
from xmlgrpo_run.files import write_json_lines
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.measures.energy import gpu_energy_j
from xmlgrpo_run.measures.memory import peak_memory_mib, reset_peak_memory
from xmlgrpo_run.metrics import LogReader, append_row, finite
from xmlgrpo_run.screen.metric_names import words_of
from xmlgrpo_run.screen.progress import Stage, clock
from xmlgrpo_run.screen.say import say
from xmlgrpo_trainer.config.run_config import WatchConfig
from xmlgrpo_trainer.doctor.finding import COLOURS
from xmlgrpo_trainer.doctor.run import LiveCheck
from xmlgrpo_trainer.grpo.lost_batches import LostBatchGuard, why_lost
from xmlgrpo_trainer.grpo.rewards import Scored
from xmlgrpo_trainer.problems.keep_best import stop_as_lost
from xmlgrpo_trainer.problems.pass_rates import TAUGHT
from xmlgrpo_trainer.ranks.processes import ALONE, Ranks
from xmlgrpo_trainer.reporting.sampled import sampled_shares
from xmlgrpo_trainer.reporting.trackers import Trackers

OFTEN_UNTIL, THEN_EVERY = 200, 10  # steps that the doctor looks after: it reads the whole log


class NotFiniteError(UserError):
    """Loss, gradient or reward has become NaN or infinite."""


class Watch(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Writes metrics and samples, and shows a line per step, a bar and sample replies.

    What the doctor finds is shown at once, and once; what `stop_when` names ends the run.
    Of several ranks the first one does, of what all have sampled.
    """

    def __init__(
        self,
        folder: RunFolder,
        task: Task,
        batch: list[Scored],
        config: WatchConfig,
        console: Console,
        *,
        trackers: Trackers,
        ranks: Ranks = ALONE,
    ) -> None:
        self.folder = folder
        self.ranks = ranks
        self.task = task
        self.batch = batch
        self.config = config
        self.console = console
        self.trackers = trackers
        self.stage = Stage(console, "training", unit="steps")
        self._step_began = time.monotonic()
        self._energy_j: float | None = None  # at the last step that was logged
        self._guard = LostBatchGuard()
        self._doctor = LiveCheck(config.stop_when)
        self._log = LogReader(folder.metrics)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock and the bar."""
        self._energy_j = gpu_energy_j()
        if self.ranks.is_first:
            self.trackers.begin()
            self.stage.start()
            self.stage.count_from(state.global_step, state.max_steps)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the bar away."""
        self.stage.stop()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note when the step began."""
        self._step_began = time.monotonic()
        reset_peak_memory()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Keep and show one step.

        Raises:
            NotFiniteError: a value is NaN or infinite, on every rank: the values are those of the
                whole batch.  trl filters NaN out of the loss it logs, so the gradient norm is
                looked at too.
            LostBatchesError: batches were lost again and again, on every rank.
        """
        if not logs or "grad_norm" not in logs:
            return
        step, lost = state.global_step, why_lost(logs)
        ends = step == state.max_steps or control.should_training_stop
        due = step == 1 or step % self.config.samples_every == 0
        not_finite = _not_finite(logs)
        gathered = self.ranks.gather((self.batch, self._energy_used_j()))
        batch = [scored for part, _ in gathered for scored in part]
        if self.ranks.is_first:
            row = {name: finite(value) for name, value in logs.items()}
            shares = sampled_shares(self.task, batch)
            row |= {**shares, "peak_mib": peak_memory_mib()}
            row |= _energy([energy_j for _, energy_j in gathered])
            seconds = time.monotonic() - self._step_began
            append_row(self.folder.metrics, {"step": step, "time": round(time.time(), 3), **row})
            kept = self._keep_samples(step, batch)
            paid = {name: row[name] for name in row if name.startswith("rewards/")}
            self.trackers.log(step, shares | paid)
            if due or ends:
                self.trackers.keep_completions(step, kept)
            if due or ends or lost or not_finite:
                self.trackers.alert(step)
            self._show_step(step, state.max_steps, row, seconds)
            if batch and due:
                self._show_sample(batch[0])
            if lost:
                say(self.console, lost, head="  [bold red]batch lost[/]: ")
        for name in not_finite:
            raise NotFiniteError(
                f"{name} is {logs[name]} at step {step}: the weights are no longer usable. "
                "Train again as a new RUN with a lower grpo.learning_rate, or with "
                "model.dtype=float32"
            )
        if lost and self.config.stop_on_lost_batches:
            self._guard.note(step, lost)
        if self.ranks.on_first(lambda: self._is_lost(step)):
            control.should_training_stop = control.should_save = True

    def _is_lost(self, step: int) -> bool:
        """Say what the doctor finds, if it is new; whether the run is to end for it."""
        if step > OFTEN_UNTIL and step % THEN_EVERY:
            return False
        new, lost = self._doctor.look(self._log.read())
        for one in new:
            words = f"{one.row}: {one.text} -> {one.advice}"
            say(self.console, escape(words), head=f"  [{COLOURS[one.level]}]doctor[/]: ")
        if lost is None:
            return False
        stop_as_lost(self.folder, step, lost.row, lost.text)
        self.trackers.alert(step)
        return True

    def _energy_used_j(self) -> float | None:
        """Since the last step that was logged, with the validation between them."""
        before, self._energy_j = self._energy_j, gpu_energy_j()
        return None if before is None or self._energy_j is None else self._energy_j - before

    def _keep_samples(self, step: int, batch: list[Scored]) -> list[dict[str, Any]]:
        """Write some completions of the step down; what was written."""
        kept = batch[: self.config.samples_kept]
        grades = grade_all(self.task, [o.completion for o in kept], [o.example for o in kept])
        rows = [
            {
                "step": step,
                "id": one.example.id,
                "question": one.example.question,
                "gold": one.example.gold,
                **({"judge": one.example.judge} if one.example.judge else {}),
                "completion": one.completion,
                "scores": one.scores,
                "strict_correct": grade.strict_correct,
                "lenient_correct": grade.lenient_correct,
                "note": grade.note,
            }
            for one, grade in zip(kept, grades, strict=True)
        ]
        if rows:
            write_json_lines(self.folder.completions_of(step), rows)
        return rows

    def _show_step(self, step: int, last: int, row: dict[str, Any], seconds: float) -> None:
        self.stage.update(step)
        clipped = row.get("completions/clipped_ratio") or 0.0
        has_worked, taught = words_of(self.task.name).worked, row.get(TAUGHT)
        fields = [
            f"[bold]step {step:>{len(str(last))}}/{last}[/]",
            f"reward [cyan]{row.get('reward') or 0:5.2f}[/]",
            f"right [green]{row['sampled/lenient']:4.0%}[/]",
            f"format {row['sampled/strict_format']:4.0%}",
            *([f"worked {row['sampled/worked']:4.0%}"] if has_worked else []),
            f"{row.get('completions/mean_length') or 0:3.0f} tokens",
            *([f"[yellow]{clipped:.0%} cut[/]"] if clipped else []),
            f"[dim]{seconds:.2f} s/step[/]",
            f"[dim]left {clock(self.stage.left_s or 0)}[/]",
            *([] if taught is None else [f"[dim]{taught:.0%} taught[/]"]),
            f"[dim]grad {row.get('grad_norm') or 0:.2f}[/]",
        ]
        self.console.print(what_fits(fields, self.console.width), highlight=False, soft_wrap=True)
        self.stage.note_output()

    def _show_sample(self, one: Scored) -> None:
        [grade] = grade_all(self.task, [one.completion], [one.example])
        mark = "[green]right[/]" if grade.lenient_correct else "[red]wrong[/]"
        gold = f"[dim](gold {escape(printable(one.example.gold))})[/]"
        reply = escape(_one_line(one.completion, 160))
        say(
            self.console,
            f"{escape(_one_line(one.example.question, 100))} {gold}",
            head="  [dim]asked[/]   ",
        )
        say(self.console, f"{reply} {mark}", head="  [dim]replied[/] ")


def _not_finite(logs: dict[str, Any]) -> list[str]:
    named = ("loss", "grad_norm", "reward")
    return [name for name in named if not math.isfinite(float(logs.get(name) or 0.0))]


def _energy(used_j: Sequence[float | None]) -> dict[str, float]:
    """That of all ranks; nothing where one does not know its own."""
    known = [joules for joules in used_j if joules is not None]
    return {"energy_j": round(sum(known), 1)} if len(known) == len(used_j) else {}


def what_fits(fields: Iterable[str], columns: int) -> Text:
    """As many fields of rich's markup as one line has room for, the most important ones first."""
    line = Text()
    for field in fields:
        part = Text.from_markup(f"  {field}" if line else field)
        if line.cell_len + part.cell_len > columns:
            break
        line.append_text(part)
    return line


def _one_line(text: str, width: int) -> str:
    flat = printable(text).replace("\n", "⏎")
    return flat if len(flat) <= width else flat[: width - 1] + "…"
