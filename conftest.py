"""Fixtures that the tests of every package share."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# Read when torch is imported, here and in every command that a test starts.  The models are so
# small that a second thread only waits for the first: on busy cores a matrix product that takes
# 5 microseconds with one thread was measured at 15 milliseconds with two.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the tests in the background has them ignore Ctrl-C, and so every command that
# they start; what Ctrl-C does is what many of them test.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _signal_handlers_put_back() -> Iterator[None]:
    """What a test has called may handle signals until its process ends; the next test may not."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def gsm8k_dir() -> Path:
    """The folder of the real GSM8K, `train.jsonl` and `test.jsonl`, named by GSM8K_DIR.

    Where it is not named the test is skipped and says so; GSM8K_REQUIRED=1 makes that a failure,
    and so is a name with nothing behind it.
    """
    named = os.environ.get("GSM8K_DIR")
    if not named:
        reason = "GSM8K_DIR is not set: the folder with GSM8K's train.jsonl and test.jsonl"
        if os.environ.get("GSM8K_REQUIRED") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(named)
    for name in ("train.jsonl", "test.jsonl"):
        if not (folder / name).is_file():
            pytest.fail(f"GSM8K_DIR={named!r} holds no {name}")
    return folder
