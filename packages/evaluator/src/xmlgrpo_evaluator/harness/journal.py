"""What a model has answered so far, on disk: an interrupted evaluation asks nothing twice.

One JSON object a line: first what is being evaluated, then one reply each, written as soon as it
is finished, and before the first of an HF model which engine writes them.  A line that was cut off
in the middle is dropped when the file is read again.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from xmlgrpo_evaluator.harness.replies import CountedReply
from xmlgrpo_evaluator.results.identity import differences
from xmlgrpo_evaluator.setup.engines import BEFORE_ENGINES
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.lock import one_writer

Key = tuple[str, int]
"""A request: the digest of prompt and settings, and which repetition of it this is."""


def request_digest(prompt: str, options: Mapping[str, Any]) -> str:
    """Equal for equal prompts and options."""
    text = json.dumps([prompt, options], sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()[:32]


class Journal:
    """The replies of one evaluation, kept in a file; a context manager.

    Args:
        path: the file; created, or continued when it has the same `subject`.
        subject: what is evaluated and how; JSON values.

    Attributes:
        path: the file.
        engines: those that wrote an HF model's replies; lm-eval's own where an old file names none.
        resumed: how many replies were there at the start.

    Raises:
        UserError: the file belongs to another evaluation, or another process writes into it.
    """

    def __init__(self, path: Path, subject: Mapping[str, Any]) -> None:
        self.path = path
        self.engines: set[str] = set()
        self._replies: dict[Key, CountedReply] = {}
        busy = f"another process is evaluating into {path}; wait for it, or name another --out"
        self._closing = ExitStack()
        self._closing.enter_context(one_writer(path, busy))
        try:
            self._file = self._closing.enter_context(path.open("ab"))
            complete = self._read(subject)
            # cut a torn last line off, so that the next one begins on a line of its own
            self._file.truncate(complete)
            if not complete:
                self._write({"subject": subject})
        except BaseException:
            self._closing.close()
            raise
        self.resumed = len(self._replies)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._closing.close()

    def __len__(self) -> int:
        return len(self._replies)

    def get(self, key: Key) -> CountedReply | None:
        """The reply to a request, if it was given."""
        return self._replies.get(key)

    def note_engine(self, name: str) -> None:
        """Keep which engine writes the replies that follow."""
        if name not in self.engines:
            self.engines.add(name)
            self._write({"engines": sorted(self.engines)})

    def add(self, key: Key, reply: CountedReply) -> None:
        """Keep a reply; it is in the file when this returns."""
        self._replies[key] = reply
        self._write(
            {
                "key": key[0],
                "nth": key[1],
                "tokens": reply.tokens,
                "truncated": reply.truncated,
                "reply": str(reply),
            }
        )

    def _write(self, line: Mapping[str, Any]) -> None:
        # ASCII, because a reply may hold lone surrogates, which UTF-8 cannot write
        self._file.write(json.dumps(line).encode("ascii") + b"\n")
        self._file.flush()

    def _read(self, subject: Mapping[str, Any]) -> int:
        """Take the complete lines in; returns their length in bytes."""
        header, complete = None, 0
        with self.path.open("rb") as lines:
            for raw in lines:
                line = _parse(raw)
                if line is None:
                    break
                complete += len(raw)
                if header is None:
                    header = line
                    continue
                if "engines" in line:
                    self.engines.update(line["engines"])
                    continue
                self._replies[line["key"], line["nth"]] = CountedReply(
                    line["reply"], tokens=line["tokens"], truncated=line["truncated"]
                )
        if not self._replies:
            self.engines.clear()
            return 0  # nothing was answered, so there is nothing to protect
        self.engines = self.engines or {BEFORE_ENGINES}
        self._check_subject(header or {}, subject)
        return complete

    def _check_subject(self, line: Mapping[str, Any], subject: Mapping[str, Any]) -> None:
        found = line.get("subject")
        differing = ["file"]
        if isinstance(found, dict):
            differing = differences(found, subject, self.engines)
        if differing:
            raise UserError(
                f"{self.path} holds replies of another evaluation (another "
                f"{', '.join(differing)}); delete it to start again, or name another --out"
            )


def _parse(raw: bytes) -> dict[str, Any] | None:
    if not raw.endswith(b"\n"):
        return None
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None
