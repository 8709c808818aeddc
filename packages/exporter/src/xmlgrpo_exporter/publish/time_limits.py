"""How long the Hub is waited for: nothing it does or leaves undone holds a command for ever.

The client itself waits without end for an answer, also for one that comes a byte at a time, and as
long as a Hub asks it to (`Retry-After`).  So its requests are watched: when none has been answered
for too long, their connections are closed, and the request ends as one that broke off.
"""

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from socket import SHUT_RDWR
from typing import Any

from huggingface_hub.utils._http import default_client_factory, set_client_factory

CONNECT_S = 10.0
ANSWER_S = 20.0  # for an answer to a question
SENDING_S = 60.0  # for one to a content or a commit, which the Hub has to store
SLOWEST_BYTES_S = 50_000  # what is sent may take so much longer
LONGEST_WAIT_S = 60.0  # that a Hub may ask for
LOOK_EVERY_S = 0.25
NO_ANSWER = frozenset({408, 425, 429, 500, 502, 503, 504})  # the same question may be answered
RESETS_IN = re.compile(r";\s*t\s*=\s*(\d+)")  # in seconds; draft-ietf-httpapi-ratelimit-headers


class NoAnswerError(Exception):
    """The Hub was not waited for any longer."""


class AskedToWaitError(Exception):
    """The Hub asks for a longer wait than a command can keep."""

    def __init__(self, status: int, seconds: float) -> None:
        super().__init__(f"it answered {status} and asks to wait {seconds:,.0f} s")
        self.status, self.seconds = status, seconds


class Patience:
    """Watches over all requests of the client while `lasting` holds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sending: dict[int, int] = {}  # thread -> bytes of the request that it waits for
        self._sockets: set[Any] = set()
        self._since: float | None = None  # nothing has been answered; None where nothing is asked
        self._limit_s = ANSWER_S
        self._over = False
        self._is_asked = False  # by the client, for every request

    @contextmanager
    def lasting(self, *, sending: bool = False) -> Iterator[None]:
        """Requests in this block end when none is answered for too long.

        Args:
            sending: they bring what the Hub has to store.

        Raises:
            NoAnswerError: of a request that is begun after that.
        """
        if not self._is_asked:
            set_client_factory(self._client)
            self._is_asked = True
        with self._lock:
            self._sending, self._since, self._over = {}, None, False
            self._limit_s = SENDING_S if sending else ANSWER_S
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(ended,), daemon=True, name="patience")
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    @property
    def ended(self) -> str:
        """How the last block ended for want of an answer; empty where it did not."""
        return f"no answer within {self._limit_s:.0f} s" if self._over else ""

    def _client(self) -> Any:
        client = default_client_factory()
        hooks = client.event_hooks
        client.event_hooks = {
            "request": [*hooks["request"], self._on_request],
            "response": [*hooks["response"], self._on_response],
        }
        return client

    def _on_request(self, request: Any) -> None:
        if self._over:
            raise NoAnswerError(self.ended)
        # beside the watch, which is the first to end it
        seconds = dict.fromkeys(("read", "write", "pool"), 2 * self._limit_s)
        request.extensions["timeout"] = {"connect": CONNECT_S, **seconds}
        request.extensions["trace"] = self._on_trace
        with self._lock:
            self._sending[threading.get_ident()] = int(request.headers.get("content-length") or 0)
            self._since = self._since or time.monotonic()

    def _on_trace(self, event: str, info: Mapping[str, Any]) -> None:
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            connection = info["return_value"].get_extra_info("socket")
            with self._lock:
                self._sockets = {known for known in self._sockets if known.fileno() >= 0}
                self._sockets.add(connection)

    def _on_response(self, response: Any) -> None:
        if (wait_s := wait_asked_for(response)) > LONGEST_WAIT_S:
            raise AskedToWaitError(response.status_code, wait_s)
        if response.request.method != "HEAD":
            response.read()
        with self._lock:
            self._sending.pop(threading.get_ident(), None)
            if response.status_code not in NO_ANSWER:
                self._since = time.monotonic() if self._sending else None

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(LOOK_EVERY_S):
            with self._lock:
                if self._since is None:
                    continue
                may_take = self._limit_s + sum(self._sending.values()) / SLOWEST_BYTES_S
                if time.monotonic() < self._since + may_take:
                    continue
                self._over = True
                for connection in self._sockets:
                    with suppress(OSError):
                        connection.shutdown(SHUT_RDWR)
                self._sockets.clear()


PATIENCE = Patience()


def wait_asked_for(response: Any) -> float:
    """Seconds that a Hub asks to wait before it is asked again; 0 where it does not."""
    if response.status_code not in NO_ANSWER:
        return 0.0
    if found := RESETS_IN.search(response.headers.get("ratelimit", "")):
        return float(found[1])
    given = response.headers.get("retry-after", "").strip()
    if given.isascii() and given.isdigit():
        return float(given)
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds())
    return 0.0
