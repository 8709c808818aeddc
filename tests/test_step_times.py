"""Which steps of a log count as steady."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "ci" / "gpu"


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    sys.path.insert(0, str(SCRIPTS))
    import step_times

    yield step_times
    sys.path.remove(str(SCRIPTS))


@pytest.mark.parametrize(
    ("times", "seconds", "steady"),
    [
        pytest.param([0, 60, 70, 71, 73, 76], [60, 10, 1, 2, 3], 2.5, id="the-second-is-warm-too"),
        pytest.param([5, 9, 10], [4, 1], 1, id="one-steady-step"),
        pytest.param([5, 9], [4], None, id="warm-steps-only"),
        pytest.param([], [], None, id="nothing-was-logged"),
    ],
)
def test_the_median_leaves_the_warm_steps_out(
    script: Any, times: list[float], seconds: list[float], steady: float | None
) -> None:
    rows = [{"time": time} for time in times]
    assert script.whole_steps(rows) == seconds
    assert script.steady_step(rows) == steady
