"""wandb: switched on by the configuration, shown where to write, never given a token by us."""

import importlib.util
import os
import secrets
import sys

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import write_text
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_trainer.config.run_config import WatchConfig


def prepare_wandb(watch: WatchConfig, folder: RunFolder) -> None:
    """Set wandb's environment; the token stays in WANDB_API_KEY or wandb's own login.

    A continued run goes on in the same wandb run: its id is drawn once and kept in the run folder,
    so that it moves with the folder, and a new run of the same name is another one.

    Raises:
        UserError: wandb is not installed, or `online` without a login.
    """
    if watch.wandb == "off":
        return
    if importlib.util.find_spec("wandb") is None:
        raise UserError(
            f"watch.wandb is {watch.wandb!r}, but the package wandb is not installed: "
            ".venv/bin/pip install wandb, or set watch.wandb=off"
        )
    if watch.wandb == "online":
        import wandb

        if not wandb.api.api_key:
            raise UserError(
                "watch.wandb is 'online', but wandb has no login here: run `wandb login` or set "
                "WANDB_API_KEY; watch.wandb=offline needs neither"
            )
    os.environ["WANDB_MODE"] = watch.wandb
    os.environ["WANDB_DIR"] = str(folder.root.resolve())
    os.environ["WANDB_PROJECT"] = watch.wandb_project
    os.environ["WANDB_RUN_ID"] = run_id(folder)
    os.environ["WANDB_RESUME"] = "allow"
    os.environ.setdefault("WANDB_CONSOLE", "off")  # our own screen lines are no metrics
    os.environ.setdefault("WANDB_DISABLE_GIT", "true")


def run_id(folder: RunFolder) -> str:
    """The id of this folder's wandb run, drawn at the first call."""
    if not folder.wandb_id.is_file():
        write_text(folder.wandb_id, secrets.token_hex(6) + "\n")
    return folder.wandb_id.read_text(encoding="utf-8").strip()


def log_to_wandb(step: int, values: dict[str, float]) -> None:
    """Log what trl does not log itself, if wandb is switched on."""
    wandb = sys.modules.get("wandb")  # the trainer has imported it where it is switched on
    if wandb is not None and getattr(wandb, "run", None) is not None:
        wandb.log({**values, "train/global_step": step})
