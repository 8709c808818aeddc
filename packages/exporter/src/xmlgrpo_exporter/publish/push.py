"""A push from its beginning to its end, or a look at what one would do."""

import argparse
import errno
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from huggingface_hub import HfApi, get_token
from rich.console import Console
from rich.filesize import decimal
from rich.text import Text

from xmlgrpo_exporter.card.card import with_card
from xmlgrpo_exporter.proof.blockers import gate_problems, model_digests, result_problems
from xmlgrpo_exporter.proof.recount import counting_problems
from xmlgrpo_exporter.publish.allowed_files import parse_what
from xmlgrpo_exporter.publish.base_and_licence import card_lookup, check_base_id
from xmlgrpo_exporter.publish.preflight import Destination, Preflight, check_names, preflight
from xmlgrpo_exporter.publish.release import Release, prepare_release
from xmlgrpo_exporter.publish.upload import upload
from xmlgrpo_exporter.publish.upload_files import secrets_at_hand
from xmlgrpo_rewards.console_script import EXIT_USER_ERROR, kept_on_interrupt
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.prose import one_line
from xmlgrpo_run.files import write_json, write_text
from xmlgrpo_run.folder import find_run
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_run.screen.say import say

WIDE_COLUMNS = 140  # of a screen that shows a whole SHA-256 beside a file's name
CARD_LINES = 12  # of a dry run: the title, what it is, and the first table's results
CARD_LINE_COLUMNS = 118
LINK = re.compile(r"\[([^\[\]]*)\]\([^()\s]*\)")


def push(arguments: argparse.Namespace, api: HfApi, console: Console) -> int:
    """Publish through `api`; with `--dry-run` show what would be published.

    Raises:
        UserError: there is a reason not to, or the Hub refuses.
    """
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
    if prune and not arguments.prune:
        there = there.plus(
            f"{to.repo} already holds {', '.join(prune)}, which this upload does not contain and "
            "its card would not describe. Publish them along (--what), delete them with --prune "
            "(their history stays), or use another repository or --revision"
        )
        prune = []
    if arguments.dry_run:
        show_dry_run(console, release, prune, there)
        _keep_card(run.dry_run_card, release)  # after it: a run may lie where nothing is written
        return EXIT_USER_ERROR if there.problems else 0
    repository = there.require_no_problem()
    _keep_card(run.hub_card, release)  # before the upload, as that must work too
    receipt = upload(api, release, repository, prune, console)
    with kept_on_interrupt("everything is there and tagged; the same command writes what went up"):
        how = "was up to date" if receipt.unchanged else "published"
        who = "private" if to.private else "public"
        say(console, Text(f"{how}, compared and tagged {receipt.tag}, {who}:\n{to.url}"))
        record = {
            "repo": to.repo,
            "revision": to.revision,
            "url": to.url,
            "commit": receipt.commit,
            "tag": receipt.tag,
            "files": [
                {"target": file.target, "size": file.size, "sha256": file.sha256}
                for file in release.files
            ],
        }
        write_json(run.pushed, record)
    return 0


def _keep_card(path: Path, release: Release) -> None:
    """Write the card where `pushed.json` lies, or will lie."""
    try:
        write_text(path, release.card)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"nothing was published: {path.parent}, where the card and the record of what went up "
            f"are kept, cannot be written ({error.strerror}); make it a folder that you may write"
        ) from None


def show_dry_run(
    console: Console, release: Release, prune: Sequence[str], there: Preflight
) -> None:
    """Print what would go where, how its card begins, and what would be refused."""
    digits = 64 if not console.is_terminal or console.width >= WIDE_COLUMNS else 12
    console.rule("size, kind, sha256, name")
    for file in release.files:
        size, sha256 = decimal(file.size), file.sha256[:digits]
        line = f"{size:>11}  {file.kind:<9}  {sha256}  {file.target}"
        console.print(line, markup=False)
    to = release.to
    where = f"{to.hub}/{to.repo} on {to.revision}, {'private' if to.private else 'public'}"
    say(console, Text(f"{len(release.files)} files, {decimal(release.size)}, to {where}"))
    console.rule("how the card begins")
    _, _, body = release.card.partition("\n---\n")
    shown = (line for line in LINK.sub(r"\1", body).splitlines() if line.strip("|- "))
    for line in islice(shown, CARD_LINES):
        say(console, Text(one_line(line, min(console.width, CARD_LINE_COLUMNS))))
    console.rule()
    for words, lines in (
        ("the whole card", [str(release.run.dry_run_card)]),
        ("deleted there", prune),
        ("stays here", map(str, release.stay)),
        ("would be refused", there.problems),
        # this refuses nothing: a dry run is for what lies here
        ("the Hub was not asked", filter(None, [there.not_asked])),
    ):
        for line in lines:
            say(console, Text(f"{words}: {line}"))
    say(console, "dry run: nothing was sent")
