"""What the hub holds, and the levers that a test pulls.

A repository is commits; a commit is a tree (path -> `Blob`); branches and tags are names of
commits.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

Json = dict[str, Any]


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class XetFile:
    """A content in the Xet store, which alone can put it together again."""

    xet_hash: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Blob:
    """A file in a tree.

    Attributes:
        content: its bytes; empty where `xet` has them.
        lfs: the content's sha256 where it is kept as an LFS object, by LFS or by Xet.
        xet: where it is in the Xet store.
    """

    content: bytes = b""
    lfs: str | None = None
    xet: XetFile | None = None

    @property
    def size(self) -> int:
        return self.xet.size if self.xet is not None else len(self.content)

    @property
    def oid(self) -> str:
        if self.lfs is None:
            return git_hash(self.content)
        pointer = (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.lfs}\nsize {self.size}\n"
        )
        return git_hash(pointer.encode())

    def entry(self, path: str) -> Json:
        entry: Json = {"type": "file", "path": path, "size": self.size, "oid": self.oid}
        if self.lfs is not None:
            entry["lfs"] = {"oid": self.lfs, "size": self.size, "pointerSize": 130}
        if self.xet is not None:
            entry["xetHash"] = self.xet.xet_hash
        return entry


@dataclass
class Repo:
    private: bool
    commits: dict[str, dict[str, Blob]] = field(default_factory=lambda: {"0" * 40: {}})
    branches: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})
    tags: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def resolve(self, revision: str) -> str | None:
        named = self.branches.get(revision) or self.tags.get(revision)
        return named or (revision if revision in self.commits else None)

    def tree(self, revision: str = "main") -> dict[str, Blob]:
        commit = self.resolve(revision)
        assert commit is not None, f"no {revision}"
        return self.commits[commit]

    def commit(self, branch: str, tree: dict[str, Blob], message: str) -> str:
        seed = json.dumps([self.branches[branch], message, len(self.commits)])
        oid = hashlib.sha1(seed.encode(), usedforsecurity=False).hexdigest()
        self.commits[oid], self.branches[branch] = tree, oid
        self.messages.append(message)
        return oid


@dataclass(frozen=True)
class Download:
    """A file on its way out, and the commit that it was read at."""

    commit: str
    blob: Blob
    headers: dict[str, str] = field(default_factory=dict)


Answer = Json | list[Json] | Download


@dataclass
class Failure:
    """The next `times` requests whose `METHOD /path` the pattern is found in fail.

    With `done` the request is carried out first: only its answer is lost.  A `status` of None
    closes the connection without an answer; `page` is sent in place of the Hub's JSON, and `how` it
    is sent: `hang` (never), `drip` (a byte at a time), `cut` (half of it), `reset` (a connection
    that is torn down).
    """

    pattern: str
    status: int | None
    times: int = 1
    page: bytes | None = None
    done: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    how: str = ""
    error_code: str | None = None
    message: str = "injected failure"


@dataclass
class Request:
    method: str
    path: str
    authorization: str | None
    body: bytes


class HangUpError(Exception):
    """The connection is to be closed without an answer."""


class SpoiltAnswerError(Exception):
    """The answer is to be sent as a `Failure` says: `how`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.how)
        self.failure = failure


class RefusalError(Exception):
    """A refusal, raised anywhere below a route."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        *,
        page: bytes | None = None,
        url: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.code, self.page = status, message, code, page
        self.url, self.headers = url, headers or {}


@dataclass
class Hub:
    """The hub's state, and the levers that a test pulls.

    Attributes:
        tokens: token -> (user, role).
        part_bytes: LFS objects above it go up in parts of this size.
        room_bytes: what the LFS store holds at most.
        cas_url: the Xet store's address, `local://FOLDER`; None for a hub without Xet.
        ignores_private: repositories are created public whatever was asked.
        before: called with each request before it is answered.
    """

    tokens: dict[str, tuple[str, str]]
    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    cards: dict[str, Json] = field(default_factory=dict)
    lfs: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    part_bytes: int | None = None
    room_bytes: int | None = None
    cas_url: str | None = None
    ignores_private: bool = False
    before: Callable[[Request], None] = lambda request: None
    lock: threading.RLock = field(default_factory=threading.RLock)
    stopped: threading.Event = field(default_factory=threading.Event)

    def writes(self) -> list[str]:
        """The requests so far that change something, as `METHOD path`."""
        reading = re.compile(r"/api/validate-yaml|.*/preupload/.*|.*/paths-info/.*")
        return [
            f"{request.method} {request.path}"
            for request in self.requests
            if request.method not in ("GET", "HEAD") and not reading.fullmatch(request.path)
        ]


@dataclass
class Call:
    """One request on its way through a route."""

    hub: Hub
    request: Request
    user: str | None
    role: str | None
    match: re.Match[str]

    @property
    def json(self) -> Json:
        fields: Json = json.loads(self.request.body or b"{}")
        return fields

    def group(self, name: str) -> str:
        return unquote(self.match[name])

    def repo(self, *, write: bool = False) -> Repo:
        repo = self.hub.repos.get(self.match["id"])
        if repo is None or (repo.private and self.user is None):
            raise RefusalError(404 if self.user else 401, "Repository not found", "RepoNotFound")
        if write and self.role != "write":
            raise RefusalError(
                403, "Forbidden: you must use a write token to upload to a repository."
            )
        return repo

    def commit_of(self, repo: Repo, revision: str) -> str:
        commit = repo.resolve(revision)
        if commit is None:
            raise RefusalError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit
