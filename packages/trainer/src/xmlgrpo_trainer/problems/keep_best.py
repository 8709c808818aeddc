"""Validation while training: how good the model is now, and which adapter is kept.

The choice goes by greedy strict accuracy on the validation problems.  A reward can be gamed and a
loss says nothing in GRPO; this is measured on problems that were never trained on, apart from the
report problems, so that choosing does not flatter the result.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import TrainerCallback

from xmlgrpo_rewards.task import Words
from xmlgrpo_run.files import write_json
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.metrics import append_row
from xmlgrpo_run.screen.say import say
from xmlgrpo_trainer.config.run_config import HoldoutConfig
from xmlgrpo_trainer.problems.exam import HoldoutResult, save_result
from xmlgrpo_trainer.ranks.processes import ALONE, Ranks

STOPPED = "stopped.json"


class KeepBest(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Measures every few steps, keeps the best adapter in `best/`, stops when patience is out.

    Args:
        measure: asks the validation problems, given the step; None where there are none.
        folder: the run.
        config: how often, and how patient.
        console: where a line goes.
        words: of the run's task.
        ranks: all measure; the first one writes and decides.
    """

    def __init__(
        self,
        measure: Callable[[int], HoldoutResult] | None,
        folder: RunFolder,
        config: HoldoutConfig,
        console: Console,
        *,
        words: Words,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.words = words
        self.measure = measure
        self.folder = folder
        self.config = config
        self.console = console

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measure the untrained model."""
        if state.global_step == 0 and self.measure is not None:
            untrained = self.measure(0)
            self.ranks.on_first(lambda: self._record(untrained))

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        """Measure when it is time, at the last step too, and keep the adapter if it is the best."""
        step = state.global_step
        due = step % self.config.every == 0 or step == state.max_steps
        if not due or self.measure is None:
            return
        result = self.measure(step)
        if self.ranks.on_first(lambda: self._is_enough(result, model)):
            control.should_training_stop = True
            control.should_save = True

    def _is_enough(self, result: HoldoutResult, model: Any) -> bool:
        """Keep the adapter if it is the best; whether to stop for want of a better one."""
        accuracy, step = self._record(result), result.step
        kept = read_best(self.folder)
        if kept is None or accuracy > kept["strict_accuracy"]:
            keep_adapter(self.folder, model, step, accuracy)
            return False
        waited = (step - kept["step"]) // self.config.every
        if self.config.patience is None or waited < self.config.patience:
            return False
        write_json(best_folder(self.folder) / STOPPED, {"step": step})
        say(
            self.console,
            f"[yellow]no better validation for {waited} measurements (best at step "
            f"{kept['step']}): stopping[/]",
        )
        return True

    def _record(self, result: HoldoutResult) -> float:
        step = result.step
        save_result(self.folder.holdout / f"validation-{step:05d}.json", result)
        shares = {
            "validation/strict_accuracy": result.share("strict_correct").value,
            "validation/lenient_accuracy": result.share("lenient_correct").value,
            "validation/strict_format": result.share("strict_format").value,
            "validation/worked": result.share("worked").value,
        }
        append_row(self.folder.metrics, {"step": step, **shares})
        _to_wandb(step, shares)
        say(
            self.console,
            f"[bold magenta]validation[/] at step {step}, {len(result.items)} problems, greedy: "
            f"strict {shares['validation/strict_accuracy']:.1%}  "
            f"lenient {shares['validation/lenient_accuracy']:.1%}  "
            f"format {shares['validation/strict_format']:.1%}"
            + (f"  worked {shares['validation/worked']:.1%}" if self.words.worked else ""),
        )
        return shares["validation/strict_accuracy"]


def _to_wandb(step: int, shares: dict[str, float]) -> None:
    import sys

    wandb = sys.modules.get("wandb")  # loaded by the trainer when it is switched on
    if wandb is not None and getattr(wandb, "run", None) is not None:
        wandb.log({**shares, "train/global_step": step})


def stopped_early(folder: RunFolder) -> bool:
    """Whether the run was ended by its patience: a resumed one must not go on."""
    return (best_folder(folder) / STOPPED).is_file()


def best_folder(folder: RunFolder) -> Path:
    """Where the best adapter so far is kept."""
    return folder.root / "best"


def keep_adapter(folder: RunFolder, model: Any, step: int, accuracy: float) -> None:
    """Keep the adapter of `step` as the best; `best.json` is replaced last."""
    best = best_folder(folder)
    weights = best / f"step-{step:05d}"
    save_adapter(model, weights)
    write_json(best / "best.json", {"step": step, "strict_accuracy": accuracy})
    for other in best.glob("step-*"):
        if other != weights:
            shutil.rmtree(other)


def read_best(folder: RunFolder) -> dict[str, Any] | None:
    """Step and accuracy of the adapter that is kept; None when there is none."""
    try:
        kept = json.loads((best_folder(folder) / "best.json").read_text(encoding="utf-8"))
        weights = best_folder(folder) / f"step-{kept['step']:05d}" / "adapter_model.safetensors"
    except (OSError, ValueError, KeyError):
        return None
    return kept if weights.is_file() else None


def save_adapter(model: Any, target: Path, tokenizer: Any = None) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`, then rename into place.

    Args:
        model: a peft model.
        target: the folder to make; one that is there is replaced.
        tokenizer: saved beside the weights when given.
    """
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model.save_pretrained(partial, safe_serialization=True)
    # peft writes a card that names local paths; `make push` writes ours
    (partial / "README.md").unlink(missing_ok=True)
    if tokenizer is not None:
        tokenizer.save_pretrained(partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def load_best(folder: RunFolder, model: Any) -> int | None:
    """Put the best adapter's weights back into `model`; returns its step, None without one."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    kept = read_best(folder)
    if kept is None:
        return None
    weights = best_folder(folder) / f"step-{kept['step']:05d}" / "adapter_model.safetensors"
    set_peft_model_state_dict(model, load_file(weights))
    return int(kept["step"])
