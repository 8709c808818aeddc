"""Numbers for the log are fetched from the GPU once a step, and completions decoded once.

Between the forward and the backward pass trl reads some ten numbers one by one.  Each time the host
waits until the GPU has done all that it was given, and then the GPU until it is given more.  Here
such a number stays where it is until trl writes its log, and all of them come together.

trl decodes the completions for the rewards, and again, with the prompts, for its table of texts.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from trl.trainer import grpo_trainer


class Late(NamedTuple):
    """A number among a metric's values that is still on the GPU."""

    value: Tensor


def fetch_once(trainer: Any) -> None:
    """Have a trainer of trl's fetch and decode as said above.

    Args:
        trainer: changed in place, before what else measures its loss.
    """
    if not trainer.use_adaptive_entropy:  # it reads one of them in the loss, to choose a factor
        LateNumbers(trainer)
    tokenizer = trainer.processing_class
    tokenizer.batch_decode = DecodedOnce(tokenizer.batch_decode, tokenizer.pad_token_id)


class LateNumbers:
    """Leaves the numbers of a loss on the GPU until they are logged; replaces three methods."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._until_loss_is_made: ExitStack | None = None
        self._loss = trainer._compute_loss  # noqa: SLF001 - trl has no hooks
        self._logprobs = trainer._get_per_token_logps_and_entropies  # noqa: SLF001
        self._log = trainer.log
        trainer._compute_loss = self._learnt  # noqa: SLF001
        trainer._get_per_token_logps_and_entropies = self._scored  # noqa: SLF001
        trainer.log = self._logged
        grpo_trainer.nanmin = _bound_of_numbers(torch.amin, math.inf)
        grpo_trainer.nanmax = _bound_of_numbers(torch.amax, -math.inf)

    def _learnt(self, model: Any, inputs: Any) -> Tensor:
        with ExitStack() as self._until_loss_is_made:
            loss: Tensor = self._loss(model, inputs)
        self._until_loss_is_made = None
        return loss

    def _scored(self, *arguments: Any, **named: Any) -> Any:
        computed = self._logprobs(*arguments, **named)
        if self._until_loss_is_made is not None:  # not earlier: each call of torch's costs more so
            self._until_loss_is_made.enter_context(_LeftThere())
        return computed

    def _logged(self, *arguments: Any, **named: Any) -> None:
        fetch(self._trainer._metrics["train"])  # noqa: SLF001
        self._log(*arguments, **named)


class _LeftThere(TorchFunctionMode):
    """A number that is asked for is not fetched."""

    def __torch_function__(
        self,
        function: Any,
        types: Any,
        arguments: Sequence[Any] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is Tensor.item:
            return Late(arguments[0].detach())
        if function is Tensor.cpu:
            return arguments[0]
        return function(*arguments, **(named or {}))


def fetch(metrics: Mapping[str, list[Any]]) -> None:
    """Put numbers in the place of those that are late, by one copy from the GPU."""
    places = [
        (values, at)
        for values in metrics.values()
        for at, value in enumerate(values)
        if isinstance(value, Late)
    ]
    if places:
        numbers = torch.stack([values[at].value.float() for values, at in places]).tolist()
        for (values, at), number in zip(places, numbers, strict=True):
            values[at] = number


def bound(values: Iterable[Any], pick: Callable[[Iterable[Any]], Any]) -> Any:
    """The largest or least of numbers, which may be late; `pick` is `max` or `min`."""
    late = [value.value for value in values if isinstance(value, Late)]
    if not late:
        return pick(values)
    stacked = torch.stack(late)
    return Late(stacked.amax() if pick is max else stacked.amin())


def _bound_of_numbers(pick: Callable[[Tensor], Tensor], beyond: float) -> Callable[..., Tensor]:
    """What trl's `nanmin` and `nanmax` are, without a look at the numbers."""

    def picked(numbers: Tensor) -> Tensor:
        is_nan = numbers.isnan()
        return pick(numbers.masked_fill(is_nan, beyond)).masked_fill(is_nan.all(), math.nan)

    return picked


class DecodedOnce:
    """Stands for a tokenizer's `batch_decode`, and remembers the texts of the newest batches."""

    MOST = 8192  # texts that are remembered

    def __init__(self, decode: Callable[..., list[str]], pad_id: int) -> None:
        self._decode, self._pad_id = decode, pad_id
        self._texts: dict[tuple[int, ...], str] = {}

    def __call__(self, sequences: Any, *options: Any, **named: Any) -> list[str]:
        """Texts of rows of ids; without special tokens padding makes no difference."""
        if options or named != {"skip_special_tokens": True}:
            return self._decode(sequences, *options, **named)
        rows = sequences.tolist() if isinstance(sequences, Tensor) else sequences
        keys = [tuple(token for token in row if token != self._pad_id) for row in rows]
        if len(self._texts) > self.MOST:
            self._texts.clear()
        new = [key for key in dict.fromkeys(keys) if key not in self._texts]
        if new:  # of no rows transformers makes one empty text
            decoded = self._decode([list(key) for key in new], skip_special_tokens=True)
            self._texts.update(zip(new, decoded, strict=True))
        return [self._texts[key] for key in keys]
