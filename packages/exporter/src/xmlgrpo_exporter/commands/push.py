"""`xmlgrpo-export push`: publish a run's adapter, merged weights and GGUF files on the Hub."""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from xmlgrpo_exporter.commands.arguments import console as make_console
from xmlgrpo_rewards.errors import EXIT_USER_ERROR, UserError, kept_on_interrupt
from xmlgrpo_run.files import write_json, write_text
from xmlgrpo_run.folder import RunFolder, find_run
from xmlgrpo_run.screen.hub_log import quiet_retries
from xmlgrpo_run.screen.progress import Stage

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from rich.console import Console

    from xmlgrpo_exporter.hub.preflight import Findings
    from xmlgrpo_exporter.hub.prepare import Prepared, Wanted
    from xmlgrpo_exporter.hub.publish import Receipt

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
    parser.add_argument(
        "--run",
        required=True,
        help="a run, or a folder of files: its name under outputs/ or its path",
    )
    parser.add_argument("--repo", required=True, help="owner/name")
    parser.add_argument(
        "--what",
        nargs="+",
        metavar="ARTEFACT",
        help="adapter, merged, gguf, base; default: what there is",
    )
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
        help="publish although a gate never ran; the card says so. One that failed still refuses",
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

    from xmlgrpo_exporter.hub.preflight import check_names, leftovers, look, plan_problems
    from xmlgrpo_exporter.hub.prepare import Wanted, prepare
    from xmlgrpo_exporter.hub.publish import Destination, publish
    from xmlgrpo_exporter.hub.remote import card_lookup
    from xmlgrpo_exporter.upload.artefacts import parse_what
    from xmlgrpo_exporter.upload.base_model import check_base_id
    from xmlgrpo_exporter.upload.contents import Contents
    from xmlgrpo_exporter.upload.evidence import evidence_problems, measured_labels
    from xmlgrpo_exporter.upload.gates import gate_problems, published_labels
    from xmlgrpo_exporter.upload.secrets import secrets_at_hand
    from xmlgrpo_run.digests import hash_ahead

    repo, revision = arguments.repo, arguments.revision
    check_names(repo, revision)
    what = parse_what(arguments.what)
    check_base_id(arguments.base_id)
    run = find_run(arguments.run)
    with Stage(console, "looking at the repository"):
        found = look(api, repo, revision, public=arguments.public)
    if not arguments.dry_run:
        found.require_none()  # before gigabytes are hashed
    wanted = Wanted(
        run.root,
        api.endpoint,
        repo,
        revision,
        what,
        private=not arguments.public,
        base_id=arguments.base_id,
    )
    prepared = prepare(wanted, secrets_at_hand(get_token()), card_lookup(api), console)
    results, files = prepared.results, prepared.plan.files
    contents = Contents(run, prepared.base)
    labels = {*measured_labels(results), *published_labels(file.target for file in files)}
    hash_ahead(contents.files(labels), console, "comparing with the results")
    found = found.also(
        *gate_problems(run, results, files, contents.content, ungated=arguments.ungated),
        *evidence_problems(run, prepared.base, results),
        *plan_problems(prepared.plan, found.remote, repo, prune=arguments.prune),
    )
    prune = leftovers(found.remote, prepared.plan) if arguments.prune else ()
    if arguments.dry_run:
        return _show(console, f"{api.endpoint}/{repo} on {revision}", prepared, prune, found)
    remote = found.require_none()
    _keep_card(run, prepared.card)
    receipt = publish(
        api,
        prepared.plan,
        Destination(repo, revision, wanted.private),
        remote,
        prune=prune,
        console=console,
    )
    how = "was up to date" if receipt.unchanged else "published"
    who = "private" if wanted.private else "public"
    _say(console, f"{how}, compared and tagged {receipt.tag}, {who}:")
    _say(console, receipt.url)
    write_json(run.pushed, _record(wanted, prepared, receipt))
    return 0


def _keep_card(run: RunFolder, card: str) -> None:
    """Write the card where `pushed.json` will lie: before the upload, as that must work too."""
    try:
        write_text(run.hub / "README.md", card)
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
        _say(console, f"caution: {endpoint} is not https, so the token travels in the clear")
    if endpoint != PUBLIC_HUB and "HF_HUB_DISABLE_XET" not in os.environ:
        os.environ["HF_HUB_DISABLE_XET"] = "1"
        _say(console, f"{endpoint}: files go by LFS (HF_HUB_DISABLE_XET=0 for a hub with Xet)")


def _show(
    console: "Console",
    where: str,
    prepared: "Prepared",
    prune: Sequence[str],
    found: "Findings",
) -> int:
    """Print the dry run; exit code 2 when publishing would be refused.

    A Hub that could not be asked is told, and refuses nothing: a dry run is for what lies here.
    """
    from xmlgrpo_exporter.card.number_format import size

    plan = prepared.plan
    console.rule("README.md")
    _say(console, prepared.card)
    digits = 64 if not console.is_terminal or console.width >= WIDE_COLUMNS else 12
    console.rule("sha256, size in bytes, kind, target")
    for file in plan.files:
        line = f"{file.sha256[:digits]}  {file.size:>13,}  {file.kind:<9}  {file.target}"
        console.print(line, markup=False)
    _say(console, f"{len(plan.files)} files, {size(plan.size)}, to {where}")
    for words, names in (
        ("deleted there", prune),
        ("stays here", plan.stay),
        ("would be refused", found.problems),
        ("the Hub was not asked", filter(None, [found.not_asked])),
    ):
        for name in names:
            _say(console, f"{words}: {name}")
    console.print("dry run: nothing was written, here or there")
    return EXIT_USER_ERROR if found.problems else 0


def _say(console: "Console", words: str) -> None:
    """Print text that is not ours to mark up."""
    from rich.text import Text

    from xmlgrpo_run.screen.say import say

    say(console, Text(words))


def _record(wanted: "Wanted", prepared: "Prepared", receipt: "Receipt") -> dict[str, Any]:
    return {
        "repo": wanted.repo,
        "revision": wanted.revision,
        "url": receipt.url,
        "commit": receipt.commit,
        "tag": receipt.tag,
        "files": [
            {"target": file.target, "size": file.size, "sha256": file.sha256}
            for file in prepared.plan.files
        ],
    }
