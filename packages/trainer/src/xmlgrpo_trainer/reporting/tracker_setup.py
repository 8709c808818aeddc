"""Trackers: switched on by the configuration, shown where to write, never given a token by us."""

import os
import re
import secrets

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.checkout import is_installed
from xmlgrpo_run.files import read_bytes, write_text
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_trainer.config.run_config import WatchConfig

MAX_ID_BYTES = 100
SENDING = (
    "TRACKIO_SPACE_ID",
    "TRACKIO_SERVER_URL",
    "TRACKIO_BUCKET_ID",
    "TRACKIO_DATASET_ID",
    "TRACKIO_WEBHOOK_URL",
)


def check_trackers(watch: WatchConfig) -> None:
    """See that the package of each tracker is there, before anything is made.

    Raises:
        UserError: one is not installed.
    """
    wanted: dict[str, str] = dict.fromkeys(watch.trackers, "watch.trackers")
    if watch.wandb != "off":
        wanted["wandb"] = "watch.wandb"
    for name, key in wanted.items():
        if not is_installed(name):
            raise UserError(
                f"{key} asks for {name}, but the package {name} is not installed: "
                f".venv/bin/pip install {name}, or leave {key} out"
            )


def prepare_trackers(watch: WatchConfig, folder: RunFolder) -> None:
    """Have every tracker write into the run folder; called before trl, which imports trackio.

    Raises:
        UserError: as `prepare_wandb`.
    """
    # these would send what is logged elsewhere; a person does that afterwards
    for name in SENDING:
        os.environ.pop(name, None)
    os.environ["TRACKIO_DIR"] = str(folder.trackio.resolve())
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder.tensorboard.resolve())
    prepare_wandb(watch, folder)


def prepare_wandb(watch: WatchConfig, folder: RunFolder) -> None:
    """Set wandb's environment; the token stays in WANDB_API_KEY or wandb's own login.

    A continued run goes on in the same wandb run: its id is drawn once and kept in the run folder,
    so that it moves with the folder, and a new run of the same name is another one.

    Raises:
        UserError: `online` without a login.
    """
    if watch.wandb == "off":
        return
    if watch.wandb == "online":
        import wandb

        if not wandb.api.api_key:
            raise UserError(
                "watch.wandb is 'online', but wandb has no login here: run `.venv/bin/wandb "
                "login` or set WANDB_API_KEY; watch.wandb=offline needs neither"
            )
    os.environ["WANDB_MODE"] = watch.wandb
    os.environ["WANDB_DIR"] = str(folder.root.resolve())
    os.environ["WANDB_PROJECT"] = watch.wandb_project
    os.environ["WANDB_RUN_ID"] = run_id(folder)
    os.environ["WANDB_RESUME"] = "allow"
    os.environ.setdefault("WANDB_CONSOLE", "off")  # our own screen lines are no metrics
    os.environ.setdefault("WANDB_DISABLE_GIT", "true")


def run_id(folder: RunFolder) -> str:
    """The id of this folder's wandb run, drawn at the first call.

    Raises:
        UserError: the file holds something else.
    """
    if not folder.wandb_id.is_file():
        write_text(folder.wandb_id, secrets.token_hex(6) + "\n")
    found = read_bytes(folder.wandb_id, MAX_ID_BYTES).decode("utf-8", "replace").strip()
    if not re.fullmatch(r"[\w-]{1,64}", found, re.ASCII):
        raise UserError(
            f"{folder.wandb_id} holds no id of a wandb run; delete it, and the run goes on under a "
            "new one"
        )
    return found
