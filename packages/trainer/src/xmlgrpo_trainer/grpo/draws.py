"""Problems that teach: drawn by their pass rates, more than are learnt from, and what it came to.

trl asks its rows in a fixed order and learns from every group.  Here a step asks the problems that
`Draws` names, `sampling.draw` times as many as are learnt from; groups whose replies are not some
right and some wrong are left out of the update as far as there are others.  All are drawn at once:
a GPU completes half as many groups again in much less than half of the time again.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from transformers import TrainerCallback

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.grading import grade_all
from xmlgrpo_rewards.task import Example, Task
from xmlgrpo_run.files import read_json, write_json
from xmlgrpo_trainer.config.run_config import SamplingConfig
from xmlgrpo_trainer.grpo.rewards import Scored
from xmlgrpo_trainer.problems.pass_rates import (
    INSIDE,
    MIXED,
    TAUGHT,
    Draws,
    PassRate,
    read_pass_rates,
)
from xmlgrpo_trainer.resume.checkpoints import checkpoint_of

FILE = "draws.json"  # in a checkpoint


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


class Group(NamedTuple):
    """The completions of one problem."""

    right: int  # how many reached the right answer
    has_signal: bool  # their advantages differ
    is_mixed: bool  # some are right and some are not


class DrawnBatches(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Says what each batch of trl's trainer teaches; with draws, asks what they name instead.

    Where the draws are is in every checkpoint.

    Args:
        trainer: trl's `GRPOTrainer`, alone; changed in place, after all else that changes it.
        draws: names the problems; None leaves them to trl.
        batch: the newest completions, as the rewards saw them.
    """

    def __init__(
        self, trainer: Any, draws: Draws | None, batch: Sequence[Scored], task: Task
    ) -> None:
        self._trainer, self._draws, self._batch, self._task = trainer, draws, batch, task
        self._rows: Dataset = trainer.train_dataset
        self._generate = trainer._generate_and_score_completions  # noqa: SLF001 - trl has no hooks
        trainer._generate_and_score_completions = self._generated if draws is None else self._drawn  # noqa: SLF001

    def _generated(self, inputs: Sequence[Any]) -> dict[str, Any]:
        """One generation batch as trl makes it."""
        batch: dict[str, Any] = self._generate(inputs)
        groups = self._groups(batch)
        self._log(batch, groups, range(len(groups)))
        return batch

    def _drawn(self, inputs: Sequence[Any]) -> dict[str, Any]:
        """One generation batch, in place of the one that trl's `inputs` would make."""
        draws, group = self._draws, self._trainer.num_generations
        assert draws is not None  # noqa: S101 - what it is called for
        wanted = len(inputs) // group
        before = draws.state()
        numbers = draws.take(round(wanted * draws.settings.draw))
        rows = [self._rows[number] for number in numbers]
        try:
            batch = self._generate([dict(row) for row in rows for _ in range(group)])
        except BaseException:
            draws.restore(before)  # what is saved now is the last finished step
            raise
        groups = self._groups(batch)
        for number, found in zip(numbers, groups, strict=True):
            draws.note(number, found.right, group)
        kept = teaching_first(groups)[:wanted]
        self._log(batch, groups, kept)
        self._metric(INSIDE, draws.families_inside())
        return _part(batch, sorted(kept), group)

    def _groups(self, batch: dict[str, Any]) -> list[Group]:
        size = self._trainer.num_generations
        texts, examples = [o.completion for o in self._batch], [o.example for o in self._batch]
        # whatever the form: else all would be unsolved until the form is learnt
        right = [grade.lenient_correct for grade in grade_all(self._task, texts, examples)]
        advantages_P_G = batch["advantages"].view(-1, size)
        has_signal = (advantages_P_G.amax(dim=1) > advantages_P_G.amin(dim=1)).tolist()
        counts = [sum(right[at : at + size]) for at in range(0, len(right), size)]
        return [
            Group(count, signal, is_mixed=0 < count < size)
            for count, signal in zip(counts, has_signal, strict=True)
        ]

    def _log(self, batch: dict[str, Any], groups: Sequence[Group], kept: Iterable[int]) -> None:
        tokens_P = batch["completion_mask"].view(len(groups), -1).sum(dim=1)
        teaching = [at for at in kept if groups[at].has_signal]
        self._metric(TAUGHT, (tokens_P[teaching].sum() / tokens_P.sum()).item())
        self._metric(MIXED, sum(found.is_mixed for found in groups) / len(groups))

    def _metric(self, name: str, value: float) -> None:
        self._trainer._metrics["train"][name].append(value)  # noqa: SLF001 - lists by name

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keep where the draws are beside the checkpoint's other files."""
        if self._draws is not None:
            folder = checkpoint_of(Path(args.output_dir), state.global_step)
            write_json(folder / FILE, self._draws.state())

    def go_on(self, checkpoint: Path) -> None:
        """Go on where a checkpoint was saved."""
        if self._draws is not None:
            self._draws.restore(read_json(checkpoint / FILE))


def teaching_first(groups: Sequence[Group]) -> list[int]:
    """Places of groups: first of what differs in the answer, then of what differs in the form."""
    return sorted(
        range(len(groups)),
        key=lambda at: (groups[at].has_signal and groups[at].is_mixed, groups[at].has_signal),
        reverse=True,
    )


def _part(batch: dict[str, Any], kept: Sequence[int], group: int) -> dict[str, Any]:
    """Some groups of a generation batch, as trl would have made it of them alone."""
    rows = [at * group + place for at in kept for place in range(group)]
    found = {
        name: value[rows] if isinstance(value, torch.Tensor) and value.dim() else value
        for name, value in batch.items()
    }
    return found | {"num_items_in_batch": found["completion_mask"].sum()}
