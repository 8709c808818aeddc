"""Ctrl-C and SIGTERM at a moment when nothing may be cut off: remembered, and acted on later."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from xmlgrpo_rewards.console_script import interruption
from xmlgrpo_rewards.errors import UserError

PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
STOPPING = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Takes the signals over while it is held; a second one stops at once.

    Args:
        words: shown at the first signal, where it is not acted on in an instant.
        one_request_s: two signals within so many seconds count as one.
    """

    def __init__(self, words: str = "", *, one_request_s: float = 0.0) -> None:
        self.words = words
        self.one_request_s = one_request_s
        self.received: int | None = None  # the first signal's number
        self._received_s = 0.0
        self._before: dict[int, Any] = {}

    def take(self) -> None:
        """Take them over; outside of the main thread, which alone gets them, nothing is done."""
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                self._before[number] = signal.signal(number, self._receive)

    def release(self) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            if time.monotonic() - self._received_s < self.one_request_s:
                return
            signal.signal(number, signal.SIG_DFL)  # a third one needs no Python
            raise interruption(number)
        self.received, self._received_s = number, time.monotonic()
        if self.words:
            # from a thread of its own: the signal may have come in the middle of another print
            threading.Thread(target=print, args=(self.words,), kwargs={"file": sys.stderr}).start()


@contextmanager
def signals_wait() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait, here and in the processes that this block starts.

    None is lost: they come when a process calls `let_signals_come`, in this one at the latest at
    the block's end.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        let_signals_come()


def let_signals_come() -> None:
    """End the waiting, once there is somebody who can answer them."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def end_with_parent() -> None:
    """Let the death of what has started this process end it as SIGTERM does; only Linux tells.

    A launcher that is stopped stops its processes; one that is killed (SIGKILL, no memory) cannot,
    and would leave them working on a folder that the next command takes.

    Raises:
        UserError: it is dead already.
    """
    if sys.platform != "linux":
        return
    before = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != before:
        raise UserError("what has started this process has ended; run the same command again")
