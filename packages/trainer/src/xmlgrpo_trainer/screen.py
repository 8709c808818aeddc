"""The screen: ours to write on; the libraries' chatter is kept off it."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from xmlgrpo_rollout.hub_log import quiet_retries
from xmlgrpo_rollout.progress import Stage
from xmlgrpo_trainer.download import Download

PIPE_WIDTH = 118  # columns, where there is no terminal to ask
LIBRARY_MODULES = 4700  # about: what torch, transformers, trl and peft consist of, as locked
LOADING = "Loading weights"  # transformers' name for its bar over the tensors of a model

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


def reading_libraries(console: Console) -> Stage:
    """The stage in which torch, transformers, trl and peft are imported: 5 to 60 s, unasked."""
    before = len(sys.modules)
    return Stage(
        console,
        "reading the libraries",
        total=LIBRARY_MODULES,
        unit="modules",
        poll=lambda: min(len(sys.modules) - before, LIBRARY_MODULES),
    )


@contextmanager
def loading_model(console: Console, name: str, revision: str | None) -> Iterator[None]:
    """The stage in which transformers downloads and loads a model.

    Args:
        name: a folder or a Hub id.
        revision: on the Hub.
    """
    from transformers.utils import logging as transformers_logging

    def downloaded() -> float:
        """Called while it is drawn; how much there is to come is asked once something has come."""
        done = download.bytes() - before
        if done and not download.is_asked:
            stage.expect(download.ask_total())
        return done

    def shown(make: Callable[..., Any], arguments: tuple[Any, ...], options: Any) -> Any:
        if options.get("desc") != LOADING:
            return make(*arguments, **options)
        [tensors] = arguments
        stage.count_from(0, len(tensors), "tensors")
        return stage.through(tensors)

    words = "loading the model"
    if Path(name).is_dir():
        stage = Stage(console, words)
    else:
        download = Download(name, revision)
        before = download.bytes()
        stage = Stage(console, words, unit="bytes", poll=downloaded)
    with stage:
        earlier = transformers_logging.set_tqdm_hook(shown)
        try:
            yield
        finally:
            transformers_logging.set_tqdm_hook(earlier)


def warm_start_shown(stage: Stage) -> Callable[[int, int, float | None], None]:
    """A warm start's `OnProgress`: it moves the stage's bar."""

    def on_progress(step: int, steps: int, loss: float | None) -> None:
        if loss is None:
            stage.count_from(step, steps)
        else:
            stage.update(step, note=f"loss {loss:.3f}")

    return on_progress
