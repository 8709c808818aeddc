"""wandb: switched on by the configuration, told where to write, never given a token by us."""

import hashlib
import importlib.util
import os

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.run_folder import RunFolder
from xmlgrpo_trainer.config import WatchConfig


def prepare_wandb(watch: WatchConfig, folder: RunFolder) -> None:
    """Set wandb's environment; the token stays in WANDB_API_KEY or wandb's own login.

    A continued run goes on in the same wandb run: its id is made from the folder's path.

    Raises:
        UserError: wandb is not installed, or `online` without a login.
    """
    if watch.wandb == "off":
        return
    if importlib.util.find_spec("wandb") is None:
        raise UserError(
            f"watch.wandb is {watch.wandb!r}, but the package wandb is not installed: "
            "pip install wandb, or set watch.wandb=off"
        )
    if watch.wandb == "online":
        import wandb

        if not wandb.api.api_key:
            raise UserError(
                "watch.wandb is 'online', but wandb has no login here: run `wandb login` or set "
                "WANDB_API_KEY; watch.wandb=offline needs neither"
            )
    root = folder.root.resolve()
    os.environ["WANDB_MODE"] = watch.wandb
    os.environ["WANDB_DIR"] = str(root)
    os.environ["WANDB_PROJECT"] = watch.wandb_project
    os.environ["WANDB_RUN_ID"] = hashlib.sha256(str(root).encode()).hexdigest()[:12]
    os.environ["WANDB_RESUME"] = "allow"
    os.environ.setdefault("WANDB_CONSOLE", "off")  # our own screen lines are no metrics
    os.environ.setdefault("WANDB_DISABLE_GIT", "true")
