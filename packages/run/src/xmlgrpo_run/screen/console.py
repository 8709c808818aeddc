"""The screen: ours to write on; the libraries' own lines and bars are kept off it."""

import logging
import os
import warnings

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.segment import Segment

from xmlgrpo_rewards.prose import printable

PIPE_COLUMNS = 118  # where there is no terminal to ask
QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",  # transformers draws a bar of its own while it loads a model
    "TRL_EXPERIMENTAL_SILENCE": "1",  # about rollout_func, whose contract a test holds
    "TOKENIZERS_PARALLELISM": "false",  # no warning at a fork, and no gain here
}
HUB_CLIENT = "huggingface_hub.utils._http"
HUB_WAITING = "the Hub does not answer; it is asked again for a while"
RETRIED = ("thrown while requesting", "Retrying in")


def make_console(pipe_columns: int = PIPE_COLUMNS, *, stderr: bool = False) -> Console:
    """Colours and bars on a terminal, plain lines of a fixed width in a pipe."""
    console = Console(stderr=stderr)
    return guarded(console if console.is_terminal else Console(stderr=stderr, width=pipe_columns))


def guarded(console: Console) -> Console:
    """The console, on which nothing that it is given steers the terminal."""
    console.push_render_hook(_AllPrintable())
    return console


def quiet_libraries() -> None:
    """Call before transformers is imported; a variable that the user has set stays."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for name in ("trl", "peft", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for category in (FutureWarning, UserWarning):
        warnings.filterwarnings("ignore", category=category)
    quiet_retries()


def quiet_retries() -> None:
    """From now on the Hub's client says once that the Hub does not answer."""
    hub = logging.getLogger(HUB_CLIENT)
    if not any(isinstance(known, _OneLine) for known in hub.filters):
        hub.addFilter(_OneLine())


class _OneLine(logging.Filter):
    """One line in words for a failed request, not two for each try; the error stays as it is."""

    def __init__(self) -> None:
        super().__init__()
        self._is_said = False

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if not any(words in text for words in RETRIED):
            return True
        if self._is_said:
            return False
        self._is_said = True
        record.msg, record.args = HUB_WAITING, ()
        return True


class _AllPrintable(RenderHook):
    """Passes what is printed through `printable`, whatever it is in: a text, a table, a rule."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Printable(renderable) for renderable in renderables]


class _Printable:
    """Something printed, without what steers the terminal; rich's own control codes stay."""

    def __init__(self, renderable: ConsoleRenderable) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._renderable, options):
            is_ours = segment.control
            yield segment if is_ours else Segment(printable(segment.text), segment.style)
