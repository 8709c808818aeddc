"""Replies: how long each was, and the journal that keeps them, so that nothing is asked twice.

lm-eval passes replies on as plain text, so a task cannot see how many tokens one took or whether
it was cut off.  A `CountedReply` is that text with the two facts on it, and lm-eval hands it to the
task unchanged.

The journal is a file of sealed JSON lines: first what is evaluated, then one reply per line,
written as soon as it is finished, and before the first reply of an HF model which engine writes
them.  In float32 the `graph` engine and lm-eval's own call of `generate` write the same greedy
replies.  In 16 bits each rounds in its own places, and `graph` adds an adapter to the weights
first, so that a near tie between two tokens may fall to the other one.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Any, Literal, Self

from xmlgrpo_evaluator.identity import differences
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.rows import MAX_ROW_BYTES, bounded_json
from xmlgrpo_run.disk import writing
from xmlgrpo_run.files import sealed, unsealed
from xmlgrpo_run.lock import one_writer

Key = tuple[str, int]
"""A request: the digest of prompt and options, and which repetition of it this is."""


class CountedReply(str):
    """The text of a reply, with its length in tokens.

    Attributes:
        tokens: tokens written, the one that ended the reply included, as in training.
        truncated: the reply was cut off at the limit.
    """

    __slots__ = ("tokens", "truncated")
    tokens: int
    truncated: bool

    def __new__(cls, text: str, *, tokens: int, truncated: bool) -> Self:
        """Make one from the text and what is known of it."""
        reply = super().__new__(cls, text)
        reply.tokens, reply.truncated = tokens, truncated
        return reply


@dataclass(frozen=True, slots=True)
class EngineUse:
    """What answers some requests to an HF model, and why."""

    name: Literal["graph", "generate"]  # the latter is lm-eval's own call
    reason: str
    at_once: int | str  # replies written side by side; `auto` where lm-eval tries it out

    def __str__(self) -> str:
        whose = "lm-eval's own generate" if self.name == "generate" else f"the {self.name} engine"
        return f"replies by {whose}, {self.at_once} at once: {self.reason}"


def request_digest(prompt: str, options: Mapping[str, Any]) -> str:
    """Equal for equal prompts and options."""
    text = json.dumps([prompt, options], sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()[:32]


class Journal:
    """The replies of one evaluation and the engines that wrote them, kept in an open file."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path, self._file = path, file
        self.uses: list[EngineUse] = []
        self.resumed = 0  # replies that were there at the start
        self.damaged: str | None = None  # in words, what of the file could not be taken in
        self._replies: dict[Key, CountedReply] = {}

    def kept(self) -> int:
        """How many replies the file holds: an interruption may come on either side of a line."""
        lines, _, _ = _complete_lines(self.path)
        return len({_key(line) for line in lines[1:] if "key" in line})

    def get(self, key: Key) -> CountedReply | None:
        """The reply to a request, if there is one."""
        return self._replies.get(key)

    @property
    def engines(self) -> set[str]:
        """The names of those that wrote replies."""
        return {use.name for use in self.uses}

    def note_engine(self, use: EngineUse) -> bool:
        """Keep which engine writes the replies that follow; false where that is known already."""
        known = any((use.name, use.reason) == (each.name, each.reason) for each in self.uses)
        if not known:
            self.uses.append(use)
            self._write({"engine": asdict(use)})
        return not known

    def add(self, key: Key, reply: CountedReply) -> None:
        """Keep a reply; it is in the file when this returns."""
        counts = {"tokens": reply.tokens, "truncated": reply.truncated}
        self._write({"key": key[0], "nth": key[1], **counts, "reply": str(reply)})
        self._replies[key] = reply

    def _write(self, line: Mapping[str, Any]) -> None:
        # ASCII, because a reply may hold lone surrogates, which UTF-8 cannot write
        left = json.dumps(sealed(line)).encode("ascii") + b"\n"
        with writing(self.path):  # a full disk takes a part, and then refuses
            while left:
                left = left[self._file.write(left) :]

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Take in the replies that are there, if they are of this same evaluation.

        Raises:
            UserError: they are of another one.
        """
        lines, complete, self.damaged = _complete_lines(self.path)
        if "subject" not in lines[0] if lines else _has_a_line(self.path):
            raise self._foreign(["file"])
        for line in lines[1:]:
            if "engine" in line:
                self.uses.append(EngineUse(**line["engine"]))
                continue
            self._replies[_key(line)] = CountedReply(
                line["reply"], tokens=line["tokens"], truncated=line["truncated"]
            )
        self.resumed = len(self._replies)
        if not self.resumed:  # nothing was answered, so there is nothing to protect
            self.uses.clear()
            self._file.truncate(0)
            self._write({"subject": identity})
        elif differing := differences(lines[0]["subject"], identity, self.engines):
            raise self._foreign(differing)
        else:  # what follows the last whole line is asked again, and begins on its own line
            self._file.truncate(complete)

    def _foreign(self, differing: Sequence[str]) -> UserError:
        return UserError(
            f"{self.path} holds replies of another evaluation (another {', '.join(differing)}); "
            "delete it to start again, or name another --out"
        )


@contextmanager
def open_journal(path: Path, identity: Mapping[str, Any]) -> Iterator[Journal]:
    """Be the only one that writes replies into this file; continues what is there.

    Raises:
        UserError: the file belongs to another evaluation, or another process writes into it.
    """
    refusal = f"another process is evaluating into {path}; wait for it, or name another --out"
    with one_writer(path, refusal), path.open("ab", buffering=0) as file:
        journal = Journal(path, file)
        journal.begin(identity)
        yield journal


def _key(line: Mapping[str, Any]) -> Key:
    return line["key"], line["nth"]


def _has_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        return b"\n" in file.read(MAX_ROW_BYTES)


def _complete_lines(path: Path) -> tuple[list[dict[str, Any]], int, str | None]:
    """The lines up to the first that is unfinished or damaged, their length in bytes, and damage.

    An unfinished last line is what a killed process leaves.
    """
    found: list[dict[str, Any]] = []
    length = 0
    try:
        with path.open("rb") as lines:
            while (line := lines.readline(MAX_ROW_BYTES)).endswith(b"\n"):
                try:
                    found.append(unsealed(path, dict(bounded_json(line) or {})))
                except (ValueError, TypeError, UserError):
                    return found, length, f"line {len(found) + 1} of {path} is damaged"
                length += len(line)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; remove it to ask anew") from None
    return found, length, None
