"""The upload itself: make sure of the visibility, one commit, compare with the Hub, tag last.

All files go up in one commit, so nobody ever sees half a model.  Contents that an interrupted
upload brought there are kept by the Hub and not sent again.  The tag comes after the comparison:
what is tagged is known to be whole.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape

from xmlgrpo_exporter.publish.hub_calls import ask
from xmlgrpo_exporter.publish.preflight import DEFAULT_BRANCH, Repository, list_files
from xmlgrpo_exporter.publish.release import Release
from xmlgrpo_exporter.publish.upload_files import UploadFile
from xmlgrpo_rewards.console_script import kept_on_interrupt, print_error
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_run.screen.say import say

GO_ON = "the same command does the rest"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was published, after it was compared."""

    commit: str
    tag: str
    unchanged: bool


def upload(
    api: HfApi, release: Release, repository: Repository, prune: Sequence[str], console: Console
) -> Receipt:
    """Publish a release, and delete the files of `prune` there in the same commit.

    The Hub refuses the commit when the branch has moved since `repository` was looked at.

    Raises:
        UserError: the Hub refuses or fails, the repository is not private, or what it holds
            afterwards is not what was sent.
    """
    to = release.to
    if not repository.exists:
        say(console, escape(f"creating {to.repo}, {'private' if to.private else 'public'}"))
        ask(
            "creating the repository",
            lambda: api.create_repo(to.repo, private=to.private, exist_ok=True),
        )
    private = ask("checking the visibility", lambda: api.model_info(to.repo)).private
    if to.private and private is not True:
        raise UserError(
            f"{to.repo} was to be private, but the Hub says it is not; nothing was uploaded. Make "
            "it private in its settings and run the command again, or say --public"
        )
    if to.revision != DEFAULT_BRANCH and repository.head is None:
        say(console, escape(f"creating the branch {to.revision}"))
        ask(
            "creating the branch",
            lambda: api.create_branch(to.repo, branch=to.revision, exist_ok=True),
        )
    before = ask("reading the branch", lambda: api.model_info(to.repo, revision=to.revision)).sha
    amount = f"{len(release.files)} files, {decimal(release.size)}"
    say(console, escape(f"uploading {amount}, to {to.repo}@{to.revision}"))
    with (
        leave_on_interrupt(f"what was uploaded is kept there; {GO_ON}"),
        # on a terminal the client draws bars of its own, one per file
        Stage(Console(quiet=True) if console.is_interactive else console, f"uploading {amount}"),
    ):
        parent = repository.head or before
        commit = ask("uploading", lambda: _commit(api, release, parent, prune), sent=True).oid
    with kept_on_interrupt(f"everything is there, and not yet compared and tagged; {GO_ON}"):
        _compare(api, release, commit)
        tag = f"xmlgrpo-{release.digest[:12]}"
        ask(
            "tagging",
            lambda: api.create_tag(to.repo, tag=tag, revision=commit, exist_ok=True),
            sent=True,
        )
    return Receipt(commit, tag, unchanged=commit == before)


@contextmanager
def leave_on_interrupt(kept: str) -> Iterator[None]:
    """Ctrl-C in this block ends the process at once, saying what is kept.

    The client sends files in threads that Python waits for at its end: gigabytes later.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        try:  # the signal may have come in the middle of another print, which refuses a second one
            if sys.stderr.isatty():
                print(file=sys.stderr)  # below the client's bars
            print_error(f"{'terminated' if number == signal.SIGTERM else 'interrupted'}: {kept}")
        finally:
            os._exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _commit(api: HfApi, release: Release, parent: str | None, prune: Sequence[str]) -> CommitInfo:
    added = [CommitOperationAdd(file.target, file.content) for file in release.files]
    for file, addition in zip(release.files, added, strict=True):
        addition.upload_info.sha256 = bytes.fromhex(file.sha256)  # it would be hashed once more
    return api.create_commit(
        release.to.repo,
        [*(CommitOperationDelete(path) for path in prune), *added],
        commit_message="Publish with xmlgrpo",
        commit_description=f"{len(release.files)} files, digest {release.digest}",
        revision=release.to.revision,
        parent_commit=parent,
    )


def _compare(api: HfApi, release: Release, commit: str) -> None:
    """Compare what the repository holds with what was planned, by size and the Hub's own hashes.

    Raises:
        UserError: something differs.
    """
    repo = release.to.repo
    held = ask("comparing", lambda: list_files(api, repo, commit), sent=True)
    wrong = [file.target for file in release.files if not _is_same(file, held.get(file.target))]
    if wrong:
        raise UserError(
            f"{repo} at {commit[:12]} does not hold what was sent: {', '.join(wrong)} differ. It "
            "was not tagged. Run the same command again; if it stays so, the Hub is at fault"
        )


def _is_same(file: UploadFile, held: RepoFile | None) -> bool:
    if held is None or held.size != file.size:
        return False
    if held.lfs is not None:
        return held.lfs.sha256 == file.sha256
    return held.blob_id == git_hash(file.read())
