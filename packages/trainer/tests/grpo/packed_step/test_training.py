"""A run of packed rows, whose numbers are fetched once, learns what one of padded rows learns."""

from pathlib import Path
from typing import Any

import pytest

from ..test_mismatch import trained

# what is logged of tokens is of those that are learnt from, and means of other micro-batches
SAME = ("loss", "grad_norm", "reward")
THREE_PARTS = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}


@pytest.mark.slow
@pytest.mark.parametrize(
    "grpo",
    [
        pytest.param({"beta": 0.1}, id="with-a-reference"),
        pytest.param(
            {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}, id="in-two-parts"
        ),
        # which completions share a part is then no matter of speed alone
        pytest.param({**THREE_PARTS, "loss_type": "bnpo"}, id="parts-by-their-tokens"),
        pytest.param({**THREE_PARTS, "top_entropy_quantile": 0.3}, id="parts-by-their-entropy"),
        pytest.param({**THREE_PARTS, "entropy_coef": 0.1}, id="parts-with-an-entropy-bonus"),
    ],
)
def test_three_steps_are_those_of_padded_rows(
    tiny_base: Path, tmp_path: Path, grpo: dict[str, Any]
) -> None:
    padded, _, _ = trained(tiny_base, tmp_path / "padded", late=True, **grpo)
    packed, _, passes = trained(tiny_base, tmp_path / "packed", late=True, packed=True, **grpo)
    assert len(padded) == len(packed) == 3
    assert passes >= 3
    for one, other in zip(packed, padded, strict=True):
        for name in SAME:
            assert one[name] == pytest.approx(other[name], rel=1e-4, abs=1e-6), name
