"""Validation while training: how good the model is now, and which adapter is kept.

The choice goes by greedy strict accuracy on the validation problems.  A reward can be gamed and a
loss says nothing in GRPO; this is measured on problems that were never trained on, apart from the
report problems, so that choosing does not flatter the result.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import Example
from xmlgrpo_run.digests import damage, file_hashes
from xmlgrpo_run.files import read_sealed, remove, replacing, write_sealed
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.measures.holdout import HoldoutResult, read_result, save_result
from xmlgrpo_run.metrics import append_row
from xmlgrpo_run.screen.metric_names import words_of
from xmlgrpo_run.screen.say import say
from xmlgrpo_trainer.config.run_config import HoldoutConfig
from xmlgrpo_trainer.problems.exam import Exam, take

BEST, STOPPED = "best.json", "stopped.json"  # in the folder `best/`


class KeepBest(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Measures every few steps, keeps the best adapter in `best/`, stops a run that is lost.

    With `keep: last` it keeps the newest in place of the best.

    All ranks measure; the first one writes and decides.
    """

    def __init__(
        self,
        exam: Exam,
        problems: Sequence[Example],
        folder: RunFolder,
        config: HoldoutConfig,
        *,
        log: Callable[[int, Mapping[str, float]], None],
    ) -> None:
        self.exam = exam
        self.problems = problems
        self.folder = folder
        self.config = config
        self.log = log  # shares and the ends of their intervals, to whoever tracks the run

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measure the untrained model."""
        if state.global_step == 0 and self.problems:
            untrained = take(self.exam, "validation", self.problems, 0)
            self.exam.ranks.on_first(lambda: self._record(untrained))

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        """Measure when it is time, at the last step too, and keep the adapter if it is the best."""
        step = state.global_step
        due = step % self.config.every == 0 or step == state.max_steps
        if not due or not self.problems:
            return
        result = take(self.exam, "validation", self.problems, step)
        if self.exam.ranks.on_first(lambda: self._is_enough(result, model)):
            control.should_training_stop = control.should_save = True

    def _is_enough(self, result: HoldoutResult, model: Any) -> bool:
        """Keep the adapter if it is the best; whether to stop: lost, or none better for long."""
        accuracy, step = self._record(result), result.step
        kept = read_best(self.folder)
        is_last_kept = self.config.keep == "last"
        if kept is None or is_last_kept or accuracy > kept["strict_accuracy"]:
            keep(self.folder, model, step, accuracy)
            return False
        reason = self._why_lost(accuracy, step)
        waited = (step - kept["step"]) // self.config.every
        if self.config.patience is not None and waited >= self.config.patience:
            reason = f"no better validation for {waited} measurements"
        if reason is None:
            return False
        write_sealed(self.folder.best / STOPPED, {"step": step})
        best = f"best at step {kept['step']}"
        say(self.exam.console, f"[yellow]{reason} ({best}): stopping[/]")
        return True

    def _flips(self, result: HoldoutResult) -> dict[str, int]:
        """Problems that were right untrained and are wrong now, and the other way round."""
        path = self.folder.validation(0)
        if result.step == 0 or not path.is_file():
            return {}
        pairs = zip(read_result(path).items, result.items, strict=True)
        changes = [(b.strict_correct, a.strict_correct) for b, a in pairs]
        return {
            "validation/lost": changes.count((True, False)),
            "validation/gained": changes.count((False, True)),
        }

    def _why_lost(self, accuracy: float, step: int) -> str | None:
        """Whether this validation and the one before are far below the untrained model's."""
        before = self.folder.validation(step - self.config.every)
        first = self.folder.validation(0)
        if self.config.stop_below is None or before == first or not before.is_file():
            return None
        untrained, earlier = (
            read_result(path).share("strict_accuracy").value for path in (first, before)
        )
        if max(accuracy, earlier) >= self.config.stop_below * untrained:
            return None
        return (
            f"validation was {untrained:.1%} untrained, {earlier:.1%} and {accuracy:.1%} now: "
            "training destroys what the model could do; lower grpo.learning_rate"
        )

    def _record(self, result: HoldoutResult) -> float:
        """Write a result down and show it; its strict accuracy."""
        step = result.step
        save_result(self.folder.validation(step), result)
        names = ("strict_accuracy", "lenient_accuracy", "strict_format", "worked")
        shares = {f"validation/{name}": result.share(name) for name in names}
        values = {name: share.value for name, share in shares.items()}
        strict, lenient, form, worked = values.values()
        append_row(self.folder.metrics, {"step": step, **values, **self._flips(result)})
        lows = {f"{name}_low": share.low for name, share in shares.items()}
        highs = {f"{name}_high": share.high for name, share in shares.items()}
        self.log(step, values | lows | highs)
        say(
            self.exam.console,
            f"[bold magenta]validation[/] at step {step}, {len(result.items)} problems, greedy: "
            f"strict {strict:.1%}  lenient {lenient:.1%}  format {form:.1%}"
            + (f"  worked {worked:.1%}" if words_of(self.exam.task.name).worked else ""),
        )
        return strict


def stop_as_lost(folder: RunFolder, step: int, row: str, words: str) -> None:
    """Write down that the doctor ended the run at this step, by which row and what it found."""
    folder.best.mkdir(parents=True, exist_ok=True)
    write_sealed(folder.best / STOPPED, {"step": step, "row": row, "words": words})


def why_lost(folder: RunFolder, steps: int) -> str | None:
    """Why the doctor ended a run of so many steps, in words; None where it did not.

    Raises:
        UserError: what says so is damaged.
    """
    path = folder.best / STOPPED
    stopped = read_sealed(path) if _stands(path) else {}
    if stopped.get("step") != steps or "row" not in stopped:
        return None
    return f"stopped as lost at step {steps}, {stopped['row']}: {stopped['words']}"


def stopped_early(folder: RunFolder, step: int) -> bool:
    """Whether its validations ended the run, by this step: a resumed one must not go on.

    Raises:
        UserError: what says so is damaged.
    """
    path = folder.best / STOPPED
    return _stands(path) and bool(read_sealed(path)["step"] <= step)


def read_best(folder: RunFolder) -> dict[str, Any] | None:
    """Step and accuracy of the adapter that is kept; None while there is none.

    Raises:
        UserError: what says so, or the adapter, is not what was written.
    """
    path = folder.best / BEST
    if not _stands(path):
        return None
    try:
        kept = read_sealed(path)
    except UserError as error:
        raise _without_best(folder, str(error)) from None
    if wrong := damage(folder.best, kept["files"]):
        raise _without_best(folder, f"{wrong}; restore it from a copy")
    return kept


def check_best(folder: RunFolder, step: int) -> None:
    """Refuse to go on from a step when the best adapter until then is damaged or lost.

    What a kill between two of them has left beside the best one is removed.

    Raises:
        UserError: another one would become the result without a word.
    """
    best = read_best(folder)
    steps = sorted(int(path.name.removeprefix("step-")) for path in folder.best.glob("step-*"))
    if best is None and steps and steps[0] <= step:
        raise _without_best(folder, f"{folder.best / BEST} is missing; restore it from a copy")
    _keep_only(folder, None if best is None else _weights(folder, best["step"]).parent)


def _without_best(folder: RunFolder, what: str) -> UserError:
    return UserError(
        f"{what}, or remove {folder.best} and run the same command again: then the best of the "
        "steps still to come is kept, or the last"
    )


def _stands(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _weights(folder: RunFolder, step: int) -> Path:
    return folder.best / f"step-{step:05d}" / "adapter_model.safetensors"


def keep(folder: RunFolder, model: Any, step: int, accuracy: float) -> None:
    """Keep the adapter of `step` as the best; `best.json` is replaced last."""
    weights = _weights(folder, step).parent
    save_adapter(model, weights)
    files = file_hashes(folder.best, weights.iterdir())
    kept = {"step": step, "strict_accuracy": accuracy, "files": files}
    write_sealed(folder.best / BEST, kept)
    _keep_only(folder, weights)


def _keep_only(folder: RunFolder, adapter: Path | None) -> None:
    for other in folder.best.glob("step-*"):
        if other != adapter:
            remove(other)


def save_adapter(model: Any, target: Path, tokenizer: Any = None) -> None:
    """Write a peft model's settings and weights, with the tokenizer when given; whole or not."""
    with replacing(target) as partial:
        partial.mkdir()
        model.save_pretrained(partial, safe_serialization=True)
        # peft writes a card that names local paths; `make push` writes ours
        (partial / "README.md").unlink(missing_ok=True)
        if tokenizer is not None:
            tokenizer.save_pretrained(partial)


def load_best(folder: RunFolder, model: Any) -> int | None:
    """Put the best adapter's weights back into `model`; returns its step, None without one."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    kept = read_best(folder)
    if kept is None:
        return None
    set_peft_model_state_dict(model, load_file(_weights(folder, kept["step"])))
    return int(kept["step"])
