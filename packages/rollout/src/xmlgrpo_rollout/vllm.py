"""Whether vLLM can draw the completions here; trl itself runs it."""

import re
from importlib.metadata import PackageNotFoundError, version

from xmlgrpo_rewards.errors import UserError

OLDEST, NEWEST = (0, 20, 0), (0, 30, 0)  # of trl 1.14.2 (`trl/import_utils.py`)


def check_vllm(device: str) -> None:
    """Refuse vLLM where it cannot run.

    Args:
        device: the kind of device the model is on, such as "cuda".

    Raises:
        UserError: no GPU, vLLM is not installed, or trl does not know its version.
    """
    if device != "cuda":
        raise UserError(
            f"rollout 'vllm' needs a GPU, and the model is on {device!r}; set rollout to 'auto'"
        )
    try:
        check_version(version("vllm"))
    except PackageNotFoundError:
        raise UserError(
            "rollout 'vllm' needs the vllm package, which is not installed; install a version "
            "that fits this torch, or set rollout to 'auto'"
        ) from None


def check_version(found: str) -> None:
    """Refuse a vLLM that trl was not made for: it would warn once and fail in the middle.

    Args:
        found: such as "0.24.0" or "0.24.0+cu130".

    Raises:
        UserError: it is older or newer than what trl takes.
    """
    number = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", found)
    parts = tuple(int(part or 0) for part in number.groups()) if number else ()
    if not OLDEST <= parts <= NEWEST:
        oldest, newest = (".".join(map(str, parts)) for parts in (OLDEST, NEWEST))
        raise UserError(
            f"rollout 'vllm': expected vLLM {oldest} to {newest}, which trl works with, got "
            f"{found}; install one of those, or set rollout to 'auto'"
        )
