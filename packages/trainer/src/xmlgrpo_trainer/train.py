"""One training run from configuration to manifest.

Every stage leaves its result in the run folder, and a second call continues after the last one
that is there: `prepare` -> `fit` -> `finish`.
"""

import os
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import get_task
from xmlgrpo_rewards.total import load_rewards
from xmlgrpo_trainer import run_dir
from xmlgrpo_trainer.config import RunConfig
from xmlgrpo_trainer.library_fields import check_groups
from xmlgrpo_trainer.prepare import prepare


def train(config: RunConfig, root: Path, console: Console) -> int:
    """Train, or continue, or show the result of the run at `root`.

    Returns:
        The process's exit code: 0 when the run is finished, 128 + the signal when it was stopped.

    Raises:
        UserError: anything that the user can mend.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        raise UserError(
            f"{processes} processes were started, but training runs on one GPU only for now; "
            "leave GPUS out"
        )
    check_groups(config.grpo)
    task = get_task(config.task)
    rewards = load_rewards(config.rewards)
    with run_dir.open_run(root, config) as run:
        if run.state == "finished":
            from xmlgrpo_trainer.summary import show_end

            console.print(f"{escape(str(root))} is finished; nothing to train.", highlight=False)
            show_end(console, run.folder.read_manifest(), run.folder)
            return 0
        prepared = prepare(config, run.folder, task, rewards, console)
        from xmlgrpo_trainer.fit import fit

        return fit(prepared, console)
