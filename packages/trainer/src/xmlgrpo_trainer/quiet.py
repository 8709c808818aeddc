"""Keep the libraries' chatter off the screen; our own lines say what a person needs to know."""

import logging
import os
import warnings


def quiet_libraries() -> None:
    """Call before transformers is imported; a variable that the user has set stays."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DATASETS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault(
        "TRL_EXPERIMENTAL_SILENCE", "1"
    )  # rollout_func; a test holds its contract
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # no fork warning, and no gain here
    for name in ("trl", "peft", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # transformers draws a bar of its own while it loads a model
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning)
