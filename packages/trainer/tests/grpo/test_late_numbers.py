"""Between forward and backward nothing is fetched, and the log is the same; texts decoded once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from xmlgrpo_trainer.grpo.late_numbers import DecodedOnce, LateNumbers, fetch, fetch_once
from xmlgrpo_trainer.grpo.mismatch import correct_mismatch

from .packed_step import test_losses
from .packed_step.test_losses import changed, inputs

trainer = test_losses.trainer
LOOKS = {
    *(Tensor.item, Tensor.tolist, Tensor.cpu, Tensor.numpy, Tensor.nonzero),
    *(Tensor.__bool__, Tensor.__int__, Tensor.__float__),
}


class Looks(TorchFunctionMode):
    """Counts what waits for a GPU: numbers that are fetched, and choices by a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_function__(
        self,
        function: Any,
        types: Any,
        arguments: Sequence[Any] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        by_mask = function is Tensor.__getitem__ and getattr(arguments[1], "dtype", 0) == torch.bool
        if function in LOOKS or by_mask:
            self.found[function.__name__] += 1
        return function(*arguments, **(named or {}))


def learnt(of: Any, *, late: bool) -> tuple[dict[str, list[float]], Counter[str]]:
    """What two micro-batches leave to be logged; what is looked at after a forward pass for it."""
    of._metrics["train"].clear()
    looks = Looks()
    engine: Any = SimpleNamespace(refresh=None)  # the log-probabilities are in the batch
    body = of.model.base_model.model.model
    forward_is_over = body.register_forward_hook(lambda *_: looks.found.clear())
    with changed(of, vllm_importance_sampling_correction=True, beta=0.1):
        if late:
            LateNumbers(of)
        correct_mismatch(of, engine, is_trls_own=True)
        batch = inputs() | {"sampling_per_token_logps": inputs()["old_per_token_logps"]}
        batch["completion_mask"][1] = 0  # a completion without a token: its mean is NaN
        for _ in range(2):
            with looks:
                of._compute_loss(of.model, batch).backward()
            for name in ("old_per_token_logps", "sampling_per_token_logps"):
                batch[name] = batch[name] + 0.2
        metrics = {name: list(values) for name, values in of._metrics["train"].items()}
    forward_is_over.remove()
    fetch(metrics)
    return metrics, looks.found


def test_a_loss_leaves_its_numbers_where_they_are(trainer: Any) -> None:
    expected, looked = learnt(trainer, late=False)
    found, left = learnt(trainer, late=True)
    assert looked["item"] > 10
    assert left == Counter()
    assert set(found) == set(expected)
    assert len(found) > 12
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, nan_ok=True, rel=1e-6), name


def test_a_bonus_that_looks_at_a_number_to_choose_its_factor_is_computed(trainer: Any) -> None:
    adaptive = {"_entropy_bonus_enabled": True, "use_adaptive_entropy": True, "entropy_coef": 0.1}
    losses = []
    for changes in (lambda _: None, fetch_once):
        # nothing is remembered of an earlier step
        with changed(trainer, **adaptive, _last_world_entropy=0.0, _entropy_window_stats=None):
            trainer.args.entropy_target = 0.3
            changes(trainer)
            losses.append(trainer.compute_loss(trainer.model, inputs()).item())
            assert trainer._last_world_entropy > 0
    assert losses[0] == losses[1]


def test_texts_are_decoded_once() -> None:
    asked: list[Any] = []

    def decode(rows: list[list[int]], **named: Any) -> list[str]:
        asked.append((rows, named))
        return ["".join(map(chr, row)) for row in rows or [[]]]  # as transformers does

    once = DecodedOnce(decode, 0)
    rows = [[97, 98], [99], [97, 98]]
    assert once(rows, skip_special_tokens=True) == ["ab", "c", "ab"]
    padded = torch.tensor([[97, 98, 0], [0, 0, 99], [100, 0, 0]])
    assert once(padded, skip_special_tokens=True) == ["ab", "c", "d"]
    assert once(rows[:1], skip_special_tokens=True) == ["ab"]
    assert [rows for rows, _ in asked] == [[[97, 98], [99]], [[100]]]
    assert once([[97, 0]]) == ["a\0"]
    assert asked[-1] == ([[97, 0]], {})
