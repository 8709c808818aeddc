"""What a run decides about its evaluation: the task, the items, the limit of a reply."""

import os
from dataclasses import replace
from pathlib import Path

from xmlgrpo_evaluator.setup.items import variable_of
from xmlgrpo_evaluator.setup.settings import OWN_FORM, Settings
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import get_task
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import Manifest, read_manifest


def own_task(folder: RunFolder) -> str:
    """lm-eval's name of the task that the run was trained on.

    Raises:
        UserError: training has not finished, or the task is not installed here.
    """
    return f"{get_task(read_manifest(folder).task).name}{OWN_FORM}"


def settings_of(folder: RunFolder, given: Settings, *, task: bool, reply_limit: bool) -> Settings:
    """The settings with what the run decides in place of what nobody named.

    Args:
        folder: the run.
        given: what the command line says.
        task: whether it names the task.
        reply_limit: whether it names the limit of a reply.

    Raises:
        UserError: the run's own items are missing.
    """
    own, settings = own_task(folder), given
    if not task:
        settings = replace(settings, tasks=(own,))
    if settings.data is None and settings.tasks == (own,):
        settings = replace(settings, data=own_items(folder))
    if not reply_limit:  # as in its own held-out results, so that both are numbers of one kind
        settings = replace(settings, max_new_tokens=read_manifest(folder).max_reply_tokens)
    return settings


def result_place(folder: RunFolder, label: str, settings: Settings) -> Path:
    """The file that holds a result of the run: `eval/tuned.json` with default settings."""
    return folder.eval / f"{label}{settings.suffix(own_task(folder))}.json"


def own_items(folder: RunFolder) -> Path | None:
    """The items that a run is asked; None where the environment or the Hub has them.

    A run on generated problems is asked its held-out ones.  A run on local rows is asked the
    `test.jsonl` beside them; without one, what the environment names; else its held-out ones too.

    Raises:
        UserError: the held-out ones are wanted, and missing.
    """
    manifest = read_manifest(folder)
    source = manifest.data.source
    if source == "hub":
        return None
    if source == "json":
        test = _beside_training_rows(folder, manifest)
        if test.is_file():
            return test
        if os.environ.get(variable_of(manifest.task)):
            return None
    items = folder.holdout_items
    if not items.is_file():
        what = "generated problems" if source == "generated" else "local rows without a test.jsonl"
        raise UserError(
            f"{folder.root} was trained on {what}, and its held-out problems ({items}) are "
            "missing; name rows to ask with --data FILE.jsonl"
        )
    return items


def _beside_training_rows(folder: RunFolder, manifest: Manifest) -> Path:
    place = manifest.data.place and manifest.data.place.now(folder)
    return (place or Path(manifest.data.name)).with_name("test.jsonl")
