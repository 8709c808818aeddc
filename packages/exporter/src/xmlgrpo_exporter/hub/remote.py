"""What is on the Hub before anything is sent: who we are there, and what the repository holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile

from xmlgrpo_exporter.hub.calls import HUB_ERRORS, ask
from xmlgrpo_exporter.upload.licence import Lookup

DEFAULT_BRANCH = "main"


@dataclass(frozen=True, slots=True)
class Account:
    """Whose token it is.

    Attributes:
        name: the user's.
        role: `read`, `write`, `fineGrained` or another; None when the Hub does not say.
        owners: names under which this user may create repositories.
    """

    name: str
    role: str | None
    owners: frozenset[str]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file in the repository: git's hash of it, and the content's sha256 where it is LFS."""

    path: str
    size: int
    blob_id: str
    lfs_sha256: str | None


@dataclass(frozen=True, slots=True)
class Remote:
    """The repository as it is now.

    Attributes:
        exists: whether it does, as far as this token can see.
        private: whether it is; None when it does not exist or the Hub does not say.
        head: the commit that the branch stands at; None when there is no such branch.
        files: what the branch holds, by path; of the default branch when there is no such branch,
            since a new one starts there.
    """

    exists: bool
    private: bool | None = None
    head: str | None = None
    files: dict[str, RemoteFile] = field(default_factory=dict)


def read_account(api: HfApi) -> Account:
    """Ask whose token this is."""
    answer: dict[str, Any] = ask("asking whose token this is", api.whoami)
    token = (answer.get("auth") or {}).get("accessToken") or {}
    organisations = {org.get("name") for org in answer.get("orgs") or ()} - {None}
    return Account(answer["name"], token.get("role"), frozenset({answer["name"], *organisations}))


def read_remote(api: HfApi, repo: str, revision: str) -> Remote:
    """Look at the repository and the branch that the files shall go to."""

    def look() -> Remote:
        try:
            info = api.model_info(repo)
        except RepositoryNotFoundError:
            return Remote(exists=False)
        try:
            head = (
                info.sha
                if revision == DEFAULT_BRANCH
                else api.model_info(repo, revision=revision).sha
            )
        except RevisionNotFoundError:
            return Remote(
                exists=True, private=info.private, files=list_files(api, repo, DEFAULT_BRANCH)
            )
        return Remote(
            exists=True, private=info.private, head=head, files=list_files(api, repo, revision)
        )

    return ask(f"looking at {repo}", look)


def list_files(api: HfApi, repo: str, revision: str) -> dict[str, RemoteFile]:
    """The files of a branch or commit, with their hashes."""
    entries = api.list_repo_tree(repo, recursive=True, revision=revision)
    return {
        entry.path: RemoteFile(
            entry.path, entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else None
        )
        for entry in entries
        if isinstance(entry, RepoFile)
    }


def card_lookup(api: HfApi) -> Lookup:
    """Looks up the metadata of a model's card; None where the Hub has none or cannot be asked."""

    def look_up(hub_id: str) -> Mapping[str, Any] | None:
        try:
            card = api.model_info(hub_id).card_data
        except HUB_ERRORS:  # OfflineModeIsEnabled is a ConnectionError
            return None
        return None if card is None else vars(card)

    return look_up
