"""The upload itself: make sure of the visibility, one commit, read back and compare, tag last.

All files go up in one commit, so nobody ever sees half a model.  Contents that an interrupted
upload brought there are kept by the Hub and not sent again.  The tag comes after the comparison:
what is tagged is known to be whole.
"""

import hashlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
)
from huggingface_hub.utils.tqdm import disable_progress_bars
from rich.console import Console
from rich.markup import escape

from xmlgrpo_exporter.card.number_format import size
from xmlgrpo_exporter.hub.calls import ask
from xmlgrpo_exporter.hub.remote import DEFAULT_BRANCH, Remote, RemoteFile, list_files
from xmlgrpo_exporter.upload.files import Plan, PlannedFile
from xmlgrpo_rewards.errors import UserError, kept_on_interrupt, tell
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_run.screen.say import say

READ_BACK_BYTES = 32 * 2**20  # larger files are compared by the hash that the Hub computed
PIECE_BYTES = 2**20
GO_ON = "the same command does the rest"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the files go."""

    repo: str
    revision: str
    private: bool


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was published, after it was compared."""

    url: str
    commit: str
    tag: str
    unchanged: bool


def publish(
    api: HfApi,
    plan: Plan,
    to: Destination,
    remote: Remote,
    *,
    prune: Sequence[str],
    console: Console,
) -> Receipt:
    """Publish the planned files.

    Args:
        api: the Hub, with the token.
        plan: what to publish.
        to: where.
        remote: how the repository looked in the preflight; the commit is refused by the Hub when
            the branch has moved since.
        prune: paths to delete in the same commit.
        console: shows what is being done.

    Raises:
        UserError: the Hub refuses or fails, the repository is not private, or what it holds
            afterwards is not what was sent.
    """
    if not remote.exists:
        say(console, escape(f"creating {to.repo}, {'private' if to.private else 'public'}"))
        ask(
            "creating the repository",
            lambda: api.create_repo(to.repo, private=to.private, exist_ok=True),
        )
    _require_visibility(api, to)
    if to.revision != DEFAULT_BRANCH and remote.head is None:
        say(console, escape(f"creating the branch {to.revision}"))
        ask(
            "creating the branch",
            lambda: api.create_branch(to.repo, branch=to.revision, exist_ok=True),
        )
    before = ask("reading the branch", lambda: api.model_info(to.repo, revision=to.revision)).sha
    amount = f"{len(plan.files)} files, {size(plan.size)}"
    say(console, escape(f"uploading {amount}, to {to.repo}@{to.revision}"))
    with (
        leave_on_interrupt(f"what was uploaded is kept there; {GO_ON}"),
        # on a terminal the client draws bars of its own, a file each
        Stage(Console(quiet=True) if console.is_interactive else console, f"uploading {amount}"),
    ):
        parent = remote.head or before
        commit = ask("uploading", lambda: _commit(api, plan, to, parent, prune), sent=True)
    with kept_on_interrupt(f"everything is there, and not yet compared and tagged; {GO_ON}"):
        compare(api, plan, to.repo, commit.oid, console)
        tag = f"xmlgrpo-{plan.digest[:12]}"
        ask(
            "tagging",
            lambda: api.create_tag(to.repo, tag=tag, revision=commit.oid, exist_ok=True),
            sent=True,
        )
    url = f"{api.endpoint}/{to.repo}"
    if to.revision != DEFAULT_BRANCH:
        url += f"/tree/{to.revision}"
    return Receipt(url, commit.oid, tag, unchanged=commit.oid == before)


@contextmanager
def leave_on_interrupt(said: str) -> Iterator[None]:
    """Ctrl-C in this block ends the process at once, saying what is kept.

    The client sends files in threads that Python waits for at its end: gigabytes later.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        try:  # the signal may have come in the middle of another print, which refuses a second one
            if sys.stderr.isatty():
                print(file=sys.stderr)  # below the client's bars
            tell(f"{'terminated' if number == signal.SIGTERM else 'interrupted'}: {said}")
        finally:
            os._exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def compare(api: HfApi, plan: Plan, repo: str, commit: str, console: Console) -> None:
    """Compare what the repository holds at a commit with what was planned.

    Every file by size and by the Hub's hash of it; files up to `READ_BACK_BYTES` are downloaded
    as well and hashed here.

    Raises:
        UserError: something differs.
    """
    held = ask("reading back", lambda: list_files(api, repo, commit), sent=True)
    wrong = [file.target for file in plan.files if not _same(file, held.get(file.target))]
    small = [
        file for file in plan.files if file.size <= READ_BACK_BYTES and file.target not in wrong
    ]
    shown = Stage(console, "reading back, comparing", total=len(small), unit="files")
    with disable_progress_bars(), shown as stage:
        for done, file in enumerate(small, 1):
            read = partial(_sha256, api, repo, commit, file)
            if ask(f"reading {file.target} back", read, sent=True) != file.sha256:
                wrong.append(file.target)
            stage.update(done)
    if wrong:
        raise UserError(
            f"{repo} at {commit[:12]} does not hold what was sent: {', '.join(wrong)} differ. It "
            "was not tagged. Run the same command again; if it stays so, the Hub is at fault"
        )


def _require_visibility(api: HfApi, to: Destination) -> None:
    private = ask("checking the visibility", lambda: api.model_info(to.repo)).private
    if to.private and private is not True:
        raise UserError(
            f"{to.repo} was to be private, but the Hub says it is not; nothing was uploaded. Make "
            "it private in its settings and run the command again, or say --public"
        )


def _commit(
    api: HfApi, plan: Plan, to: Destination, parent: str | None, prune: Sequence[str]
) -> CommitInfo:
    added = [
        CommitOperationAdd(
            file.target, file.content if isinstance(file.content, bytes) else str(file.content)
        )
        for file in plan.files
    ]
    return api.create_commit(
        to.repo,
        [*(CommitOperationDelete(path) for path in prune), *added],
        commit_message="Publish with xmlgrpo",
        commit_description=f"{len(plan.files)} files, digest {plan.digest}",
        revision=to.revision,
        parent_commit=parent,
    )


def _same(file: PlannedFile, held: RemoteFile | None) -> bool:
    if held is None or held.size != file.size:
        return False
    if held.lfs_sha256 is not None:
        return held.lfs_sha256 == file.sha256
    content = file.read()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return held.blob_id == blob.hexdigest()


def _sha256(api: HfApi, repo: str, commit: str, file: PlannedFile) -> str:
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory(prefix="xmlgrpo-") as folder:
        path = api.hf_hub_download(repo, file.target, revision=commit, local_dir=folder)
        with Path(path).open("rb") as content:
            while piece := content.read(PIECE_BYTES):
                digest.update(piece)
    return digest.hexdigest()
