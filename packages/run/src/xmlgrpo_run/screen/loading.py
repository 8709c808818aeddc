"""What is shown while libraries and models are loaded: their own counts move our bar."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from xmlgrpo_run.screen.progress import Stage

LOADING = "Loading weights"  # transformers' name for its bar over the tensors of a model


def reading_libraries(console: Console, modules: int) -> Stage:
    """The stage in which torch, transformers and their like are imported: 5 to 60 s, unasked.

    Args:
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
    """
    from transformers.utils import logging as transformers_logging

    is_local, is_asked = Path(name).is_dir(), False
    before = 0 if is_local else _cached_bytes(name)

    def downloaded() -> float:
        """Called while it is drawn; asks for the total once, when the Hub has answered anyway."""
        nonlocal is_asked
        done = _cached_bytes(name) - before
        if done and not is_asked:
            is_asked = True
            stage.expect(_total_bytes(name, revision))
        return done

    def shown(make: Callable[..., Any], arguments: tuple[Any, ...], options: Any) -> Any:
        if options.get("desc") != LOADING:
            return make(*arguments, **options)
        [tensors] = arguments
        stage.count_from(0, len(tensors), "tensors")
        return stage.through(tensors)

    counts: dict[str, Any] = {} if is_local else {"unit": "bytes", "poll": downloaded}
    stage = Stage(console, "loading the model", **counts)
    with stage:
        earlier = transformers_logging.set_tqdm_hook(shown)
        try:
            yield
        finally:
            transformers_logging.set_tqdm_hook(earlier)


def _cached_bytes(name: str) -> int:
    """What lies of a model in the Hub's cache on this machine, half files included."""
    from huggingface_hub.constants import HF_HUB_CACHE

    total = 0
    for path in (Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "blobs").glob("*"):
        with suppress(FileNotFoundError):  # it has just got its final name
            total += path.stat().st_size
    return total


def _total_bytes(name: str, revision: str | None) -> int | None:
    """Bytes of a model's weights on the Hub; None where the Hub does not say."""
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(name, revision=revision, files_metadata=True, timeout=5)
    except Exception:  # noqa: BLE001 - it is only the bar's end; loading says what is wrong
        return None
    sizes = [f.size or 0 for f in info.siblings or [] if f.rfilename.endswith(".safetensors")]
    return sum(sizes) or None
