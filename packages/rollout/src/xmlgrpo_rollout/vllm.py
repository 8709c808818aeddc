"""Whether vLLM can draw the completions here; trl itself runs it."""

import importlib.util

from xmlgrpo_rewards.errors import UserError


def check_vllm(device: str) -> None:
    """Refuse vLLM where it cannot run.

    Args:
        device: the kind of device the model is on, such as "cuda".

    Raises:
        UserError: no GPU, or vLLM is not installed.
    """
    if device != "cuda":
        raise UserError(
            f"rollout 'vllm' needs a GPU, and the model is on {device!r}; set rollout to 'auto'"
        )
    if importlib.util.find_spec("vllm") is None:
        raise UserError(
            "rollout 'vllm' needs the vllm package, which is not installed; install a version "
            "that fits this torch, or set rollout to 'auto'"
        )
