"""Kernels that are launched while the one before them still runs (programmatic dependent launch).

Hopper and later: a kernel's programs take their places as soon as multiprocessors have room, wait
until all that was launched before is done and written, and let the next kernel's do the same.  What
is saved is the launch, the same arithmetic is done in the same order.
"""

from typing import Any

import torch
import triton
import triton.language as tl

LEAST_CAPABILITY = 9  # Hopper


@triton.jit
def wait_and_release(EARLY: tl.constexpr):
    """First of all in a kernel: nothing is read before it."""
    if EARLY:
        tl.extra.cuda.gdc_wait()
        # at once: the next kernel waits for all of this one, not for this line alone
        tl.extra.cuda.gdc_launch_dependents()


def launch(*, early: bool) -> dict[str, Any]:
    """What a kernel that begins so is launched with."""
    return {"EARLY": True, "launch_pdl": True} if early else {"EARLY": False}


def can_launch_early(device: torch.device) -> bool:
    """Whether the GPU knows such launches."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= LEAST_CAPABILITY
