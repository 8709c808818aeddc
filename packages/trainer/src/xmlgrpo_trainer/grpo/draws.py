"""Problems that teach: drawn by their pass rates, more than are learnt from, and what it came to.

trl asks its rows in a fixed order and learns from every group.  Here a step asks the problems that
`Draws` names, `sampling.draw` times as many as are learnt from; groups whose replies are not some
right and some wrong are left out of the update as far as there are others.  All are drawn at once:
a GPU completes half as many groups again in much less than half of the time again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.grading import grade_all
from xmlgrpo_rewards.task import Example, Task
from xmlgrpo_run.files import read_json, write_json
from xmlgrpo_trainer.config.run_config import SamplingConfig
from xmlgrpo_trainer.grpo.rewards import Scored
from xmlgrpo_trainer.problems.pass_rates import Draws, PassRate, read_pass_rates
from xmlgrpo_trainer.run.checkpoints import checkpoint_of

FILE = "draws.json"  # in a checkpoint
TAUGHT, MIXED, INSIDE = "draws/taught_tokens", "draws/mixed_groups", "draws/in_band"


def make_draws(settings: SamplingConfig, problems: Sequence[Example], seed: int) -> Draws:
    """The draws of a run.

    Raises:
        UserError: the file of pass rates cannot be read, or is of other problems.
    """
    known = read_pass_rates(Path(settings.rates)) if settings.rates else {}
    rates = [known.get(p.question, PassRate(0, 0, p.question)) for p in problems]
    if known and not any(problem.question in known for problem in problems):
        raise UserError(
            f"sampling.rates: expected rates of the problems that are trained on, got {len(known)} "
            f"of others in {settings.rates!r}; measure them with make passrate"
        )
    return Draws(rates, settings, seed)


class DrawnBatches(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Replaces the batches of trl's trainer; saves and restores where the draws are.

    Args:
        trainer: trl's `GRPOTrainer`; changed in place, after all else that changes it.
        draws: names the problems.
        batch: the newest completions, as the rewards saw them.
        task: grades them.
    """

    def __init__(self, trainer: Any, draws: Draws, batch: Sequence[Scored], task: Task) -> None:
        self._trainer, self._draws, self._batch, self._task = trainer, draws, batch, task
        self._rows: Dataset = trainer.train_dataset
        self._generate = trainer._generate_and_score_completions  # noqa: SLF001 - trl has no hooks
        trainer._generate_and_score_completions = self._drawn  # noqa: SLF001

    def _drawn(self, inputs: Sequence[Any]) -> dict[str, Any]:
        """One generation batch, in place of trl's `inputs`."""
        group = self._trainer.num_generations
        wanted = len(inputs) // group
        before = self._draws.state()
        numbers = self._draws.take(round(wanted * self._draws.settings.draw))
        rows = [self._rows[number] for number in numbers]
        try:
            batch = self._generate([dict(row) for row in rows for _ in range(group)])
        except BaseException:
            self._draws.restore(before)  # what is saved now is the last finished step
            raise
        grades = grade_all(
            self._task, [one.completion for one in self._batch], [o.example for o in self._batch]
        )
        # whatever the form: else all would be unsolved until the form is learnt
        right = [grade.lenient_correct for grade in grades]
        counts = [sum(right[place : place + group]) for place in range(0, len(right), group)]
        for number, count in zip(numbers, counts, strict=True):
            self._draws.note(number, count, group)
        advantages_P_G = batch["advantages"].view(-1, group)
        has_signal = (advantages_P_G.amax(dim=1) > advantages_P_G.amin(dim=1)).tolist()
        is_mixed = [0 < count < group for count in counts]
        # first what differs in the answer, then what differs in the form alone
        order = sorted(
            range(len(numbers)),
            key=lambda at: (has_signal[at] and is_mixed[at], has_signal[at]),
            reverse=True,
        )
        kept = sorted(order[:wanted])
        self._log(batch, [at for at in kept if has_signal[at]], is_mixed)
        return _groups(batch, kept, group)

    def _log(self, batch: dict[str, Any], teaching: list[int], is_mixed: list[bool]) -> None:
        tokens_P = batch["completion_mask"].view(len(is_mixed), -1).sum(dim=1)
        metrics = self._trainer._metrics["train"]  # noqa: SLF001 - lists by name
        metrics[TAUGHT].append((tokens_P[teaching].sum() / tokens_P.sum()).item())
        metrics[MIXED].append(sum(is_mixed) / len(is_mixed))
        metrics[INSIDE].append(self._draws.families_inside())

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keep where the draws are beside the checkpoint's other files."""
        folder = checkpoint_of(Path(args.output_dir), state.global_step)
        write_json(folder / FILE, self._draws.state())

    def go_on(self, checkpoint: Path) -> None:
        """Go on where a checkpoint was saved."""
        self._draws.restore(read_json(checkpoint / FILE))


def _groups(batch: dict[str, Any], kept: Sequence[int], group: int) -> dict[str, Any]:
    """Some groups of a generation batch, as trl would have made it of them alone."""
    rows = [at * group + place for at in kept for place in range(group)]
    found = {
        name: value[rows] if isinstance(value, torch.Tensor) and value.dim() else value
        for name, value in batch.items()
    }
    return found | {"num_items_in_batch": found["completion_mask"].sum()}
