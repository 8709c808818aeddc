"""Whether vLLM can draw the completions here; trl itself runs it."""

import re
from importlib.metadata import version

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.checkout import installed_version

# the oldest and the newest that a trl takes, by its release (`trl/import_utils.py`)
OF_TRL = {(1, 14): ((0, 20, 0), (0, 30, 0)), (1, 16): ((0, 22, 0), (0, 31, 0))}


def check_vllm(device: str) -> None:
    """Refuse vLLM where it cannot run.

    Args:
        device: the kind of device the model is on, such as "cuda".

    Raises:
        UserError: no GPU, vLLM is not installed, or trl does not know its version.
    """
    lacking = [] if device == "cuda" else [f"a GPU, and the model is on {device!r}"]
    found = installed_version("vllm")
    if found is None:
        lacking.append("a vllm package that fits this torch, which is not installed")
    if found is None or lacking:
        raise UserError(f"rollout 'vllm' needs {', and '.join(lacking)}; set rollout to 'auto'")
    check_version(found, version("trl"))


def check_version(found: str, trl: str) -> None:
    """Refuse a vLLM that trl was not made for: it would warn once and fail in the middle.

    Args:
        found: such as "0.24.0" or "0.24.0+cu130".
        trl: the version of trl.

    Raises:
        UserError: it is older or newer than what trl takes.
    """
    oldest, newest = OF_TRL[max(known for known in OF_TRL if known <= _numbers(trl)[:2])]
    if not oldest <= _numbers(found) <= newest:
        first, last = (".".join(map(str, parts)) for parts in (oldest, newest))
        raise UserError(
            f"rollout 'vllm': expected vLLM {first} to {last}, which trl works with, got "
            f"{found}; install one of those, or set rollout to 'auto'"
        )


def _numbers(release: str) -> tuple[int, ...]:
    """(major, minor, patch) of a release; nothing for what is none."""
    number = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    return tuple(int(part or 0) for part in number.groups()) if number else ()
