"""The way of an interrupted warm start: weights, the optimisers' means and the step, in one file.

The data and its order come from the seed, and nothing else is random; so a warm start that goes on
from here ends with the weights of one that was never interrupted, to the bit.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from xmlgrpo_rewards.errors import interruption
from xmlgrpo_trainer.run.stop_signals import StopSignals

KEEP_EVERY = 100  # steps that a killed process loses at most


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a warm start has come.

    Attributes:
        step: the last finished one.
        losses: of the latest steps, the last one last.
    """

    step: int = 0
    losses: tuple[float, ...] = ()

    @property
    def loss(self) -> float:
        """The mean of the latest losses."""
        return sum(self.losses) / max(1, len(self.losses))


class Keeper:
    """Keeps the way of a warm start; while it is held, a signal ends the warm start after a step.

    Args:
        path: the file, which the caller removes once the model is there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.signals = StopSignals()

    def __enter__(self) -> Self:
        self.signals.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.signals.release()

    def after(
        self,
        reached: Reached,
        steps: int,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
    ) -> None:
        """Keep what a step has changed, now and then; stop if a signal has come.

        Raises:
            KeyboardInterrupt: it has.
        """
        number = self.signals.received
        if number is not None or reached.step % KEEP_EVERY == 0:
            keep(self.path, model, optimizers, reached)
        if number is not None:
            raise interruption(
                number,
                f"the warm start is kept up to step {reached.step:,} of {steps:,}; run the same "
                "command again to continue",
            )


def keep(
    path: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], reached: Reached
) -> None:
    """Write the state after a step to a temporary name, then rename: never half a file."""
    partial = path.with_name(f"{path.name}.partial")
    save_file(_tensors(model, optimizers), partial, {"reached": json.dumps(asdict(reached))})
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def go_on(path: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> Reached:
    """Put a kept state back in place.

    Returns:
        How far it had come; step 0, with nothing changed, where nothing readable is kept.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
            reached = json.loads(file.metadata()["reached"])
    except (OSError, SafetensorError):
        return Reached()
    weights = dict(model.named_parameters())
    for name, tensor in tensors.items():
        kind, *place = name.split("/")
        if kind == "weight":
            weights[place[0]].data.copy_(tensor)
        else:
            number, index, key = place
            optimizer = optimizers[int(number)]
            optimizer.state[_parameters(optimizer)[int(index)]][key] = tensor
    return Reached(reached["step"], tuple(reached["losses"]))


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _tensors(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """`weight/<name>` and `mean/<optimiser>/<parameter>/<key>`, both numbered from 0."""
    tensors = {f"weight/{name}": p.data for name, p in model.named_parameters()}
    for number, optimizer in enumerate(optimizers):
        for index, parameter in enumerate(_parameters(optimizer)):
            for key, tensor in optimizer.state[parameter].items():
                tensors[f"mean/{number}/{index}/{key}"] = tensor
    return tensors
