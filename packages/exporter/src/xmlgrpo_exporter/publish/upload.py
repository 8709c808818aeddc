"""The upload itself: make sure of the visibility, one commit, compare with the Hub, tag last.

All files go up in one commit, so nobody ever sees half a model.  Contents that an interrupted
upload brought there are kept by the Hub and not sent again.  The tag comes after the comparison:
what is tagged is known to be whole.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape

from xmlgrpo_exporter.publish.hub_calls import ANY_FAILURE, ask
from xmlgrpo_exporter.publish.own_files import OwnFile
from xmlgrpo_exporter.publish.preflight import DEFAULT_BRANCH, Destination, Repository, list_files
from xmlgrpo_exporter.publish.release import Release
from xmlgrpo_exporter.publish.upload_files import UploadFile
from xmlgrpo_rewards.console_script import kept_on_interrupt, print_error
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_run.screen.say import say

T = TypeVar("T")

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

    def asked(doing: str, call: Callable[[], T], **how: Any) -> T:
        with Stage(console, doing):
            return ask(doing, call, **how)

    if not repository.exists:
        say(console, escape(f"creating {to.repo}, {'private' if to.private else 'public'}"))
        asked("creating the repository", lambda: _create(api, to))

    def refuse_if_seen(what_now: str, todo: str) -> None:
        private = asked("checking the visibility", lambda: api.model_info(to.repo)).private
        if to.private and private is not True:
            raise UserError(
                f"{to.repo} was to be private, but the Hub says it is not; {what_now}. {todo}"
            )

    make_private = "Make it private in its settings and run the command again, or say --public"
    refuse_if_seen("nothing was uploaded", make_private)
    if to.revision != DEFAULT_BRANCH and repository.head is None:
        say(console, escape(f"creating the branch {to.revision}"))
        asked(
            "creating the branch",
            lambda: api.create_branch(to.repo, branch=to.revision, exist_ok=True),
        )
    before = asked("reading the branch", lambda: api.model_info(to.repo, revision=to.revision)).sha
    amount = f"{len(release.files)} files, {decimal(release.size)}"
    say(console, escape(f"uploading {amount}, to {to.repo}@{to.revision}"))
    added = _additions(release)

    def send() -> None:
        api.preupload_lfs_files(to.repo, added, revision=to.revision, free_memory=False)

    with (
        leave_on_interrupt(f"what was uploaded is kept there; {GO_ON}"),
        # on a terminal the client draws bars of its own, one per file
        Stage(Console(quiet=True) if console.is_interactive else console, f"uploading {amount}"),
    ):
        how: dict[str, Any] = {"sent": True, "sending": True}
        ask("uploading", send, **how)
        for file in release.files:
            if isinstance(file.content, OwnFile):
                file.content.require_unchanged()
        refuse_if_seen("contents were sent, and nothing was committed", make_private)
        parent = repository.head or before
        commit = ask("uploading", lambda: _commit(api, release, parent, prune, added), **how)
    with kept_on_interrupt(f"everything is there, and not yet compared and tagged; {GO_ON}"):
        with Stage(console, "comparing"):
            _compare(api, release, commit)
        tag = f"xmlgrpo-{release.digest[:12]}"
        asked(
            "tagging",
            lambda: api.create_tag(to.repo, tag=tag, revision=commit, exist_ok=True),
            sent=True,
        )
        tagged = asked(
            f"looking for the tag {tag}", lambda: api.model_info(to.repo, revision=tag), sent=True
        ).sha
        if tagged != commit:  # of an upload of the same files, to another branch perhaps
            _compare(api, release, str(tagged))
        refuse_if_seen(
            "it became public during the upload, and everybody sees what was uploaded",
            "Make it private in its settings, or delete it",
        )
    return Receipt(commit, tag, unchanged=commit == before)


def _create(api: HfApi, to: Destination) -> None:
    try:
        api.create_repo(to.repo, private=to.private, exist_ok=True)
    except KeyError:  # the answer does not say where; what counts is whether it is there
        api.model_info(to.repo)


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


def _additions(release: Release) -> list[CommitOperationAdd]:
    """What is sent, with the hashes that are known: it would be hashed once more."""
    added = []
    for file in release.files:
        content = file.content if isinstance(file.content, bytes) else file.content.address
        added.append(CommitOperationAdd(file.target, content))
        added[-1].upload_info.sha256 = bytes.fromhex(file.sha256)
    return added


def _commit(
    api: HfApi,
    release: Release,
    parent: str | None,
    prune: Sequence[str],
    added: Sequence[CommitOperationAdd],
) -> str:
    """Commit, and return the commit; the one that an answer was lost of, where there is one."""
    to = release.to
    try:
        return api.create_commit(
            to.repo,
            [*(CommitOperationDelete(path) for path in prune), *added],
            commit_message="Publish with xmlgrpo",
            commit_description=f"{len(release.files)} files, digest {release.digest}",
            revision=to.revision,
            parent_commit=parent,
        ).oid
    except ANY_FAILURE:
        with suppress(*ANY_FAILURE):
            head = api.model_info(to.repo, revision=to.revision).sha
            held = list_files(api, to.repo, str(head))
            is_there = all(_is_same(file, held.get(file.target)) for file in release.files)
            if head and head != parent and is_there and not held.keys() & set(prune):
                return head
        raise


def _compare(api: HfApi, release: Release, commit: str) -> None:
    """Refuse a commit that differs from what was planned, by size and the Hub's own hashes."""
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
