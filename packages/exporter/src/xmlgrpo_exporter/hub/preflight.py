"""Everything that can be wrong, found before the first byte is sent, and all of it at once."""

import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import HfApi, get_token

from xmlgrpo_exporter.hub.calls import NotAskedError, no_token
from xmlgrpo_exporter.hub.publish import READ_BACK_BYTES
from xmlgrpo_exporter.hub.remote import DEFAULT_BRANCH, Account, Remote, read_account, read_remote
from xmlgrpo_exporter.upload.files import Plan
from xmlgrpo_rewards.errors import UserError

REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
BRANCH = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)*", re.ASCII)
MAX_REPO_NAME = 96  # the Hub's limit for owner and name together
HEADER_VALUE = re.compile(r"[!-~]+")
FREE_BYTES = 64 * 2**20

# What would stand in the repository beside a card that does not speak of it.
MODEL_FILE = re.compile(r".*\.(safetensors|gguf|bin|pt|pth)|(.*/)?(adapter_)?config\.json")


@dataclass(frozen=True, slots=True)
class Findings:
    """What the preflight found.

    Attributes:
        remote: the repository as it is; None when the Hub could not say.
        problems: why nothing may be sent, each with what to do.
        not_asked: why the Hub could not be asked, with what to do; empty where it was.
    """

    remote: Remote | None
    problems: tuple[str, ...]
    not_asked: str = ""

    def also(self, *problems: str) -> "Findings":
        """These findings with more problems."""
        return replace(self, problems=(*self.problems, *problems))

    def require_none(self) -> Remote:
        """The repository as it is, when nothing stands against publishing.

        Raises:
            UserError: there is at least one; the message holds them all.
        """
        reasons = [*filter(None, [self.not_asked]), *self.problems]
        if len(reasons) == 1:
            raise UserError(f"nothing was published: {reasons[0]}")
        if reasons or self.remote is None:
            lines = "".join(f"\n  - {reason}" for reason in reasons)
            raise UserError(f"nothing was published, for {len(reasons)} reasons:{lines}")
        return self.remote


def look(api: HfApi, repo: str, revision: str, *, public: bool) -> Findings:
    """Ask the Hub, by reading only, whether this token can publish there.

    A Hub that cannot be asked is a finding as well, not an exception: a dry run shows the rest.
    """
    problems, not_asked = [], ""
    remote = None
    try:
        _require_token(api)
        problems += _account_problems(read_account(api), repo)
        remote = read_remote(api, repo, revision)
        problems += _visibility_problems(remote, repo, public=public)
    except NotAskedError as error:
        not_asked = str(error)
    except UserError as error:
        problems.append(str(error))
    return Findings(remote, tuple(problems), not_asked)


def plan_problems(plan: Plan, remote: Remote | None, repo: str, *, prune: bool) -> list[str]:
    """Why these very files cannot be published: no room here, or others in their way there.

    Args:
        plan: what is to be published.
        remote: the repository as it is, where that is known.
        repo: its name.
        prune: files that are in the way are to be deleted.
    """
    left = [] if prune else leftovers(remote, plan)
    return [*_disk_problems(plan), *_leftover_problems(left, repo)]


def leftovers(remote: Remote | None, plan: Plan) -> list[str]:
    """Model files in the repository that this upload neither replaces nor describes."""
    planned = {file.target for file in plan.files}
    there = remote.files if remote is not None else {}
    return sorted(path for path in there if MODEL_FILE.fullmatch(path) and path not in planned)


def check_names(repo: str, revision: str) -> None:
    """Refuse names that the Hub would refuse, or read as something else.

    Raises:
        UserError: the repository is not `owner/name`, or the branch's name is none.
    """
    if not REPO.fullmatch(repo) or len(repo) > MAX_REPO_NAME or re.search(r"--|\.\.|\.git$", repo):
        raise UserError(
            f"--repo: expected owner/name in letters, digits, '-', '_' and '.', got {repo!r}"
        )
    if not BRANCH.fullmatch(revision) or ".." in revision or revision.endswith((".lock", ".", "/")):
        raise UserError(
            f"--revision: expected a branch's name, such as {DEFAULT_BRANCH} or q4, got "
            f"{revision!r}"
        )
    if re.fullmatch(r"[0-9a-f]{40}|refs/.*", revision):
        raise UserError(f"--revision: expected a branch's name, got a commit or ref, {revision!r}")


def _require_token(api: HfApi) -> None:
    token = api.token or get_token()
    if not isinstance(token, str) or not token:
        raise no_token()
    if not HEADER_VALUE.fullmatch(token):
        raise UserError(
            "HF_TOKEN (or the Hub login) holds something that is no token: expected letters, "
            "digits and '_' without spaces, such as hf_..."
        )


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


def _visibility_problems(remote: Remote, repo: str, *, public: bool) -> list[str]:
    """Why the repository's visibility is not the one asked for."""
    problems = []
    if remote.exists and not public and remote.private is not True:
        problems.append(
            f"{repo} exists and is public: everybody would see these files. Say --public if that "
            "is meant, make it private in its settings, or use another name"
        )
    if remote.exists and public and remote.private is not False:
        problems.append(
            f"{repo} exists and is private, and --public does not open an existing repository; "
            "leave --public out, or make it public in its settings"
        )
    return problems


def _leftover_problems(left: list[str], repo: str) -> list[str]:
    """Why files that were there before must not stay beside this card."""
    problems = []
    if left:
        problems.append(
            f"{repo} already holds {', '.join(left)}, which this upload does not contain and its "
            "card would not describe. Publish them along (--what), delete them with --prune (their "
            "history stays), or use another repository or --revision"
        )
    return problems


def _disk_problems(plan: Plan) -> list[str]:
    """Why there is no room to read the files back, one by one, into the temporary folder."""
    largest = max((file.size for file in plan.files if file.size <= READ_BACK_BYTES), default=0)
    folder = Path(tempfile.gettempdir())
    needed, free = largest + FREE_BYTES, shutil.disk_usage(folder).free
    problems = []
    if free < needed:
        problems.append(
            f"{folder} has {free / 2**20:.0f} MiB free; comparing the upload needs "
            f"{needed / 2**20:.0f} MiB there. Free some space, or set TMPDIR to another disk"
        )
    return problems
