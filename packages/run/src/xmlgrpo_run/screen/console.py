"""The screen: ours to write on; the libraries' own lines and bars are kept off it."""

import logging
import os
import warnings

from rich.console import Console

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


def make_console(pipe_columns: int = PIPE_COLUMNS) -> Console:
    """Colours and bars on a terminal, plain lines of a fixed width in a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=pipe_columns)


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
