"""How fast the replies came: wall and CPU time of the asking, without loading."""

import time
from typing import Any


class Speed:
    """A stopwatch that counts tokens."""

    def __init__(self) -> None:
        self._tokens, self._seconds, self._cpu_seconds = 0, 0.0, 0.0
        self._began = self._cpu_began = 0.0

    def start(self) -> None:
        """Begin."""
        self._began, self._cpu_began = time.perf_counter(), time.process_time()

    def count(self, tokens: int) -> None:
        """Take note of a new reply's tokens."""
        self._tokens += tokens

    def stop(self) -> None:
        """End; nothing happens where nothing was asked."""
        if self._began:
            self._seconds = time.perf_counter() - self._began
            self._cpu_seconds = time.process_time() - self._cpu_began

    def report(self) -> dict[str, Any]:
        """The numbers; JSON values."""
        per_second = self._tokens / self._seconds if self._seconds else None
        return {
            "reply_tokens": self._tokens,
            "seconds": round(self._seconds, 3),
            "cpu_seconds": round(self._cpu_seconds, 3),
            "tokens_per_s": per_second and round(per_second, 2),
        }
