"""What is shown while libraries and models are loaded: their own counts move our bar."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from xmlgrpo_run.screen.download import Download
from xmlgrpo_run.screen.progress import Stage

LOADING = "Loading weights"  # transformers' name for its bar over the tensors of a model


def reading_libraries(console: Console, modules: int) -> Stage:
    """The stage in which torch, transformers and their like are imported: 5 to 60 s, unasked.

    Args:
        console: where to.
        modules: how many there are to import, about.
    """
    before = len(sys.modules)
    return Stage(
        console,
        "reading the libraries",
        total=modules,
        unit="modules",
        poll=lambda: min(len(sys.modules) - before, modules),
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
