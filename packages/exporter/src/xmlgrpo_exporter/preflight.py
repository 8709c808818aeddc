"""Everything that can be wrong, found before the first byte is sent, and all of it at once."""

import re
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import HfApi, get_token

from xmlgrpo_exporter.hub_calls import no_token
from xmlgrpo_exporter.publish import READ_BACK_BYTES
from xmlgrpo_exporter.remote import DEFAULT_BRANCH, Account, Remote, read_account, read_remote
from xmlgrpo_exporter.upload_plan import Plan
from xmlgrpo_rewards.errors import UserError

REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
BRANCH = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)*", re.ASCII)
MAX_REPO_NAME = 96  # the Hub's limit for owner and name together
FREE_BYTES = 64 * 2**20

# What would stand in the repository beside a card that does not speak of it.
MODEL_FILE = re.compile(r".*\.(safetensors|gguf|bin|pt|pth)|(.*/)?(adapter_)?config\.json")


@dataclass(frozen=True, slots=True)
class Findings:
    """What the preflight found.

    Attributes:
        account: whose token it is; None when the Hub could not say.
        remote: the repository as it is; None when the Hub could not say.
        prune: paths that the user asked to delete there.
        problems: why nothing may be sent, each with what to do.
    """

    account: Account | None
    remote: Remote | None
    prune: tuple[str, ...]
    problems: tuple[str, ...]

    def also(self, problems: Iterable[str]) -> "Findings":
        """These findings with more problems, those first."""
        return replace(self, problems=(*problems, *self.problems))

    def require_none(self) -> Remote:
        """The repository as it is, when nothing stands against publishing.

        Raises:
            UserError: there is at least one; the message holds them all.
        """
        if len(self.problems) == 1:
            raise UserError(f"nothing was published: {self.problems[0]}")
        if self.problems or self.remote is None:
            lines = "".join(f"\n  - {problem}" for problem in self.problems)
            raise UserError(f"nothing was published, for {len(self.problems)} reasons:{lines}")
        return self.remote


def inspect(
    api: HfApi, plan: Plan, repo: str, revision: str, *, public: bool, prune: bool
) -> Findings:
    """Ask the Hub, by reading only, whether this plan can be published there.

    A Hub that cannot be asked is a finding as well, not an exception: a dry run shows the rest.
    """
    problems = [_disk_problem(plan)]
    account = remote = None
    left: list[str] = []
    try:
        if not (api.token or get_token()):
            raise no_token()
        account = read_account(api)
        problems += _account_problems(account, repo)
        remote = read_remote(api, repo, revision)
    except UserError as error:
        problems.append(str(error))
    if remote is not None:
        left = leftovers(remote, plan)
        problems.append(_visibility_problem(remote, repo, public=public))
        problems.append(None if prune else _leftover_problem(left, repo))
    found = tuple(problem for problem in problems if problem is not None)
    return Findings(account, remote, tuple(left) if prune else (), found)


def check_names(repo: str, revision: str) -> None:
    """Refuse names that the Hub would refuse, or read as something else.

    Raises:
        UserError: the repository is not `owner/name`, or the branch's name is none.
    """
    if not REPO.fullmatch(repo) or len(repo) > MAX_REPO_NAME or re.search(r"--|\.\.|\.git$", repo):
        raise UserError(
            f"--repo: expected owner/name in letters, digits, '-', '_' and '.', came {repo!r}"
        )
    if not BRANCH.fullmatch(revision) or ".." in revision or revision.endswith((".lock", ".", "/")):
        raise UserError(
            f"--revision: expected a branch's name, such as {DEFAULT_BRANCH} or q4, came "
            f"{revision!r}"
        )
    if re.fullmatch(r"[0-9a-f]{40}|refs/.*", revision):
        raise UserError(f"--revision: expected a branch's name, came a commit or ref, {revision!r}")


def _account_problems(account: Account, repo: str) -> list[str]:
    """Why this token cannot publish there."""
    owner = repo.partition("/")[0]
    problems = []
    if account.role == "read":
        problems.append(
            f"the token of {account.name} may only read; make one that may write at "
            "https://huggingface.co/settings/tokens"
        )
    # A fine-grained token may be given for an organisation that whoami does not list.
    if owner not in account.owners and account.role != "fineGrained":
        problems.append(
            f"the token is {account.name}'s, who is not in {owner}; publish to "
            f"{account.name}/{repo.partition('/')[2]}, or use a token of {owner}"
        )
    return problems


def _visibility_problem(remote: Remote, repo: str, *, public: bool) -> str | None:
    """Why the repository's visibility is not the one asked for."""
    if remote.exists and not public and remote.private is not True:
        return (
            f"{repo} exists and is public: everybody would see these files. Say --public if that "
            "is meant, make it private in its settings, or use another name"
        )
    if remote.exists and public and remote.private is not False:
        return (
            f"{repo} exists and is private, and --public does not open an existing repository; "
            "leave --public out, or make it public in its settings"
        )
    return None


def leftovers(remote: Remote, plan: Plan) -> list[str]:
    """Model files in the repository that this upload neither replaces nor describes."""
    planned = {file.target for file in plan.files}
    return sorted(
        path for path in remote.files if MODEL_FILE.fullmatch(path) and path not in planned
    )


def _leftover_problem(left: list[str], repo: str) -> str | None:
    """Why files that were there before must not stay beside this card."""
    if not left:
        return None
    return (
        f"{repo} already holds {', '.join(left)}, which this upload does not contain and its card "
        "would not describe. Publish them along (--what), delete them with --prune (their history "
        "stays), or use another repository or --revision"
    )


def _disk_problem(plan: Plan) -> str | None:
    """Why there is no room to read the files back, one by one, into the temporary folder."""
    largest = max((file.size for file in plan.files if file.size <= READ_BACK_BYTES), default=0)
    folder = Path(tempfile.gettempdir())
    needed, free = largest + FREE_BYTES, shutil.disk_usage(folder).free
    if free >= needed:
        return None
    return (
        f"{folder} has {free / 2**20:.0f} MiB free; comparing the upload needs "
        f"{needed / 2**20:.0f} MiB there. Free some space, or set TMPDIR to another disk"
    )
