"""The screen: ours to write on; the libraries' chatter is kept off it."""

import logging
import os
import warnings
from collections.abc import Callable

from rich.console import Console

from xmlgrpo_run.screen.hub_log import quiet_retries
from xmlgrpo_run.screen.progress import Stage

PIPE_WIDTH = 118  # columns, where there is no terminal to ask
LIBRARY_MODULES = 4700  # about: what torch, transformers, trl and peft consist of, as locked

QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",  # transformers draws a bar of its own while it loads a model
    "TRL_EXPERIMENTAL_SILENCE": "1",  # about rollout_func, whose contract a test holds
    "TOKENIZERS_PARALLELISM": "false",  # no warning at a fork, and no gain here
}


def make_console() -> Console:
    """Colours and bars on a terminal, plain lines of a fixed width in a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


def quiet_libraries() -> None:
    """Call before transformers is imported; a variable that the user has set stays."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for name in ("trl", "peft", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    quiet_retries()
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning)


def warm_start_shown(stage: Stage) -> Callable[[int, int, float | None], None]:
    """A warm start's `OnProgress`: it moves the stage's bar."""

    def on_progress(step: int, steps: int, loss: float | None) -> None:
        if loss is None:
            stage.count_from(step, steps)
        else:
            stage.update(step, note=f"loss {loss:.3f}")

    return on_progress
