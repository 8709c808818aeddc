"""The repository as it is, and what forbids publishing there; found by reading only."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile

from xmlgrpo_exporter.publish.hub_calls import NotAskedError, ask, no_token
from xmlgrpo_rewards.errors import UserError

DEFAULT_BRANCH = "main"
REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
BRANCH = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)*", re.ASCII)
NO_BRANCH = re.compile(r"\.\.|(\.lock|\.)$|^refs/|^[0-9a-f]{40}$")
MAX_REPO_NAME = 96  # the Hub's limit for owner and name together
HEADER_VALUE = re.compile(r"[!-~]+")

# What would stand in the repository beside a card that does not speak of it.
MODEL_FILE = re.compile(r".*\.(safetensors|gguf|bin|pt|pth)|(.*/)?(adapter_)?config\.json")


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the files go: the Hub's address, `owner/name`, the branch, and who may see it."""

    hub: str
    repo: str
    revision: str
    private: bool

    @property
    def url(self) -> str:
        """The page of the branch."""
        page = f"{self.hub}/{self.repo}"
        return page if self.revision == DEFAULT_BRANCH else f"{page}/tree/{self.revision}"

    def page_of(self, target: str) -> str:
        """The page of a published file."""
        return f"{self.hub}/{self.repo}/blob/{self.revision}/{target}"


@dataclass(frozen=True, slots=True)
class Repository:
    """The repository as it is now, as far as this token can see.

    `files` are those of the branch; where there is none yet, of the default one, where it starts.
    """

    exists: bool
    private: bool | None = None  # None when the Hub does not say
    head: str | None = None  # the commit that the branch stands at; None without such a branch
    files: Mapping[str, RepoFile] = field(default_factory=dict)  # by path


@dataclass(frozen=True, slots=True)
class Preflight:
    """What speaks against publishing, found before anything is sent."""

    repository: Repository | None  # None when the Hub could not say
    problems: tuple[str, ...]  # why nothing may be sent, each with what to do
    not_asked: str = ""  # why the Hub could not be asked, with what to do

    def plus(self, *problems: str) -> "Preflight":
        """The same with more problems."""
        return replace(self, problems=(*self.problems, *problems))

    def leftovers(self, targets: Iterable[str]) -> list[str]:
        """Model files in the repository that an upload to these targets does not replace."""
        there = self.repository.files if self.repository else {}
        return sorted(path for path in {*there} - {*targets} if MODEL_FILE.fullmatch(path))

    def require_no_problem(self) -> Repository:
        """The repository; a UserError that names all that speaks against publishing there."""
        reasons = [*filter(None, [self.not_asked]), *self.problems]
        if len(reasons) == 1:
            raise UserError(f"nothing was published: {reasons[0]}")
        if reasons or self.repository is None:
            lines = "".join(f"\n  - {reason}" for reason in reasons)
            raise UserError(f"nothing was published, for {len(reasons)} reasons:{lines}")
        return self.repository


def check_names(repo: str, revision: str) -> None:
    """Refuse names that the Hub would refuse, or read as something else."""
    if not REPO.fullmatch(repo) or len(repo) > MAX_REPO_NAME or re.search(r"--|\.\.|\.git$", repo):
        raise UserError(
            f"--repo: expected owner/name in letters, digits, '-', '_' and '.', got {repo!r}"
        )
    if not BRANCH.fullmatch(revision) or NO_BRANCH.search(revision):
        raise UserError(
            f"--revision: expected a branch's name, such as {DEFAULT_BRANCH} or q4, and no commit "
            f"or ref, got {revision!r}"
        )


def preflight(api: HfApi, to: Destination) -> Preflight:
    """Ask the Hub whether this token can publish there.

    A Hub that cannot be asked is a finding as well, not an exception: a dry run shows the rest.
    """
    problems: list[str] = []
    repository, not_asked = None, ""
    try:
        _require_token(api)
        problems += ask(
            "asking whose token this is", lambda: list(_account_problems(api.whoami(), to.repo))
        )
        repository = ask(f"looking at {to.repo}", lambda: _look(api, to))
        problems += _visibility_problems(repository, to)
    except NotAskedError as error:
        not_asked = str(error)
    except UserError as error:
        problems.append(str(error))
    return Preflight(repository, tuple(problems), not_asked)


def list_files(api: HfApi, repo: str, revision: str) -> dict[str, RepoFile]:
    """The files of a branch or commit, with their sizes and hashes."""
    entries = api.list_repo_tree(repo, recursive=True, revision=revision)
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def _look(api: HfApi, to: Destination) -> Repository:
    try:
        info = api.model_info(to.repo)
    except RepositoryNotFoundError:
        return Repository(exists=False)
    branch, head = to.revision, info.sha
    if branch != DEFAULT_BRANCH:
        try:
            head = api.model_info(to.repo, revision=branch).sha
        except RevisionNotFoundError:
            branch, head = DEFAULT_BRANCH, None
    files = list_files(api, to.repo, branch)
    return Repository(exists=True, private=info.private, head=head, files=files)


def _require_token(api: HfApi) -> None:
    token = api.token or get_token()
    if not isinstance(token, str) or not token:
        raise no_token()
    if not HEADER_VALUE.fullmatch(token):
        raise UserError(
            "HF_TOKEN (or the Hub login) holds something that is no token: expected letters, "
            "digits and '_' without spaces, such as hf_..."
        )


def _account_problems(account: Mapping[str, Any], repo: str) -> Iterator[str]:
    """Why this token, of which the Hub says `account`, cannot publish there."""
    user, (owner, _, name) = account["name"], repo.partition("/")
    role = ((account.get("auth") or {}).get("accessToken") or {}).get("role")
    owners = {user, *(organisation.get("name") for organisation in account.get("orgs") or ())}
    if role == "read":
        yield (
            f"the token of {user} may only read; make one that may write at "
            "https://huggingface.co/settings/tokens"
        )
    # A fine-grained token may be given for an organisation that whoami does not list.
    if owner not in owners and role != "fineGrained":
        yield (
            f"the token is {user}'s, who is not in {owner}; publish to {user}/{name}, or use a "
            f"token of {owner}"
        )


def _visibility_problems(repository: Repository, to: Destination) -> Iterator[str]:
    """Why the repository's visibility is not the one asked for."""
    if repository.exists and to.private and repository.private is not True:
        yield (
            f"{to.repo} exists and is public: everybody would see these files. Say --public if "
            "that is meant, make it private in its settings, or use another name"
        )
    if repository.exists and not to.private and repository.private is not False:
        yield (
            f"{to.repo} exists and is private, and --public does not open an existing repository; "
            "leave --public out, or make it public in its settings"
        )
