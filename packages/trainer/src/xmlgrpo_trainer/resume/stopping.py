"""A stop loses nothing: a signal waits for the end of the step, and a failed step is undone."""

from typing import Any

import torch
from transformers import TrainerCallback

from xmlgrpo_run.stop_signals import StopSignals
from xmlgrpo_trainer.ranks.processes import ALONE, Ranks

FINISHING = "finishing this step, then saving; a second signal stops at once"
# a scheduler signals every process, the launcher hands its own on: one request, not two
TWICE_S = 3.0


class StopAndSave(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Ctrl-C or SIGTERM finishes the step, saves and stops; a second signal stops at once.

    Args:
        every: steps between two generations.  The completions of a generation batch are not in a
            checkpoint, so only a save between two batches can be continued identically.
        ranks: a signal to one of them stops all, after the same step.
    """

    def __init__(self, every: int = 1, ranks: Ranks = ALONE) -> None:
        self.every = every
        self.ranks = ranks
        self.signals = StopSignals(
            FINISHING if ranks.is_first else "", one_request_s=TWICE_S if ranks.count > 1 else 0.0
        )
        self.received: int | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the signals over."""
        self.signals.take()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a save and a stop once a signal has come and the batch is used up."""
        if state.global_step % self.every:
            return
        numbers = [n for n in self.ranks.gather(self.signals.received) if n is not None]
        if numbers:
            self.received = numbers[0]
            control.should_save = control.should_training_stop = True

    def release(self) -> None:
        """Give the signals back."""
        self.signals.release()


class StepStart(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Remembers what a step changes before its update: the random state and the token count.

    A step that fails half-way has drawn random numbers and counted tokens already; with both put
    back, what is saved is the last finished step exactly.
    """

    def __init__(self) -> None:
        self._cpu: torch.Tensor | None = None
        self._cuda: list[torch.Tensor] = []
        self._tokens = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Remember."""
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        self._tokens = state.num_input_tokens_seen

    def restore(self, state: Any) -> None:
        """Put it back, the token count into the trainer's `state`."""
        if self._cpu is None:
            return
        torch.set_rng_state(self._cpu)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)
        state.num_input_tokens_seen = self._tokens
