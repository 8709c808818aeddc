"""`xmlgrpo-export push`: publish a run's adapter, merged weights and GGUF files on the Hub."""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from xmlgrpo_exporter.commands.arguments import RUN_HELP
from xmlgrpo_exporter.commands.arguments import console as make_console
from xmlgrpo_rewards.console_script import EXIT_USER_ERROR, kept_on_interrupt
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import write_json, write_text
from xmlgrpo_run.folder import RunFolder, find_run
from xmlgrpo_run.screen.console import quiet_retries
from xmlgrpo_run.screen.progress import Stage

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from rich.console import Console

    from xmlgrpo_exporter.publish.preflight import Preflight
    from xmlgrpo_exporter.publish.release import Release

PUBLIC_HUB = "https://huggingface.co"
WIDE_COLUMNS = 140  # of a screen that shows a whole SHA-256 beside a file's name
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "push",
        help="publish on the Hugging Face Hub, private unless --public",
        description="Publish a run with a card whose every number names its file. The token comes "
        "from HF_TOKEN or `hf auth login`; HF_ENDPOINT names another hub than huggingface.co.",
    )
    parser.add_argument("--run", required=True, help=f"{RUN_HELP}; or a folder of files")
    parser.add_argument("--repo", required=True, help="owner/name")
    what = "adapter, merged, gguf, base; default: what there is"
    parser.add_argument("--what", nargs="+", metavar="ARTEFACT", help=what)
    parser.add_argument("--revision", default="main", help="branch to publish to (default: main)")
    parser.add_argument("--public", action="store_true", help="everybody may see it")
    parser.add_argument("--dry-run", action="store_true", help="show what would go; write nothing")
    parser.add_argument("--base-id", help="the base model on the Hub, where the run does not say")
    parser.add_argument(
        "--prune", action="store_true", help="delete model files there that are not published now"
    )
    parser.add_argument(
        "--ungated",
        action="store_true",
        help="publish although a gate never ran; the card says so. A failed gate always refuses",
    )
    parser.set_defaults(command=command)


def command(arguments: argparse.Namespace) -> int:
    """Publish, or with --dry-run show what would be published."""
    console = make_console()
    _set_up_client(console)
    with kept_on_interrupt("nothing was uploaded; the same command starts again"):
        from huggingface_hub import HfApi

        return push(arguments, HfApi(), console)


def push(arguments: argparse.Namespace, api: "HfApi", console: "Console") -> int:
    """Publish through `api`.

    Raises:
        UserError: there is a reason not to, or the Hub refuses.
    """
    from huggingface_hub import get_token

    from xmlgrpo_exporter.card.card import with_card
    from xmlgrpo_exporter.proof.blockers import gate_problems, model_digests, result_problems
    from xmlgrpo_exporter.proof.recount import counting_problems
    from xmlgrpo_exporter.publish.allowed_files import parse_what
    from xmlgrpo_exporter.publish.base_and_licence import card_lookup, check_base_id
    from xmlgrpo_exporter.publish.preflight import Destination, check_names, preflight
    from xmlgrpo_exporter.publish.release import prepare_release
    from xmlgrpo_exporter.publish.upload import upload
    from xmlgrpo_exporter.publish.upload_files import secrets_at_hand

    check_names(arguments.repo, arguments.revision)
    what = parse_what(arguments.what)
    check_base_id(arguments.base_id)
    run = find_run(arguments.run)
    to = Destination(api.endpoint, arguments.repo, arguments.revision, not arguments.public)
    with Stage(console, "looking at the repository"):
        there = preflight(api, to)
    if not arguments.dry_run:
        there.require_no_problem()  # before gigabytes are hashed
    secrets = secrets_at_hand(get_token())
    release = prepare_release(
        run,
        to,
        what,
        arguments.base_id,
        look_up=card_lookup(api, console),
        secrets=secrets,
        console=console,
    )
    release = with_card(release, secrets)
    digests = model_digests(release, console)
    there = there.plus(
        *gate_problems(release, digests, ungated=arguments.ungated),
        *result_problems(release, digests),
        *counting_problems(release),
    )
    prune = there.leftovers(file.target for file in release.files)
    if not arguments.prune:
        there, prune = there.refusing(prune, to.repo), []
    if arguments.dry_run:
        _show(console, release, prune, there)
        return EXIT_USER_ERROR if there.problems else 0
    repository = there.require_no_problem()
    _keep_card(run, release)
    receipt = upload(api, release, repository, prune, console)
    with kept_on_interrupt("everything is there and tagged; the same command writes what went up"):
        how = "was up to date" if receipt.unchanged else "published"
        who = "private" if to.private else "public"
        _say(console, f"{how}, compared and tagged {receipt.tag}, {who}:")
        _say(console, to.url)
        record: dict[str, Any] = {"repo": to.repo, "revision": to.revision, "url": to.url}
        record |= {"commit": receipt.commit, "tag": receipt.tag}
        files = [{"target": f.target, "size": f.size, "sha256": f.sha256} for f in release.files]
        write_json(run.pushed, record | {"files": files})
    return 0


def _keep_card(run: RunFolder, release: "Release") -> None:
    """Write the card where `pushed.json` will lie: before the upload, as that must work too."""
    try:
        write_text(run.hub_card, release.card)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"nothing was published: {run.hub}, where the card and the record of what went up are "
            f"kept, cannot be written ({error.strerror}); make it a folder that you may write"
        ) from None


def _set_up_client(console: "Console") -> None:
    """Settings that the client reads when it is imported, unless the user chose them.

    Plain LFS on hubs other than huggingface.co: the client takes Xet wherever hf_xet is installed,
    and does not fall back where the hub has none.  No bars in a pipe, and one line about a hub that
    does not answer.
    """
    quiet_retries()
    if not (sys.stderr.isatty() and console.is_interactive):
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    endpoint = os.environ.get("HF_ENDPOINT", PUBLIC_HUB).rstrip("/")
    url = urlsplit(endpoint)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise UserError(f"HF_ENDPOINT: expected https://HOST, got {endpoint!r}")
    if url.scheme == "http" and url.hostname not in THIS_MACHINE:
        _say(console, f"caution: {endpoint} is not https, so the token is sent unencrypted")
    if endpoint != PUBLIC_HUB and "HF_HUB_DISABLE_XET" not in os.environ:
        os.environ["HF_HUB_DISABLE_XET"] = "1"
        _say(console, f"{endpoint}: files go by LFS (HF_HUB_DISABLE_XET=0 for a hub with Xet)")


def _show(console: "Console", release: "Release", prune: Sequence[str], there: "Preflight") -> None:
    """Print the dry run."""
    from rich.filesize import decimal

    console.rule("README.md")
    _say(console, release.card)
    digits = 64 if not console.is_terminal or console.width >= WIDE_COLUMNS else 12
    console.rule("sha256, size in bytes, kind, target")
    for file in release.files:
        line = f"{file.sha256[:digits]}  {file.size:>13,}  {file.kind:<9}  {file.target}"
        console.print(line, markup=False)
    where = f"{release.to.hub}/{release.to.repo} on {release.to.revision}"
    _say(console, f"{len(release.files)} files, {decimal(release.size)}, to {where}")
    for words, lines in (
        ("deleted there", prune),
        ("stays here", map(str, release.stay)),
        ("would be refused", there.problems),
        # this refuses nothing: a dry run is for what lies here
        ("the Hub was not asked", filter(None, [there.not_asked])),
    ):
        for line in lines:
            _say(console, f"{words}: {line}")
    console.print("dry run: nothing was written, here or there")


def _say(console: "Console", words: str) -> None:
    """Print text that is not ours to mark up."""
    from rich.text import Text

    from xmlgrpo_run.screen.say import say

    say(console, Text(words))
