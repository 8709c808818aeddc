"""GPUs by name: memory, bfloat16 and speed, from NVIDIA's data sheets; and this machine's own."""

import difflib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from xmlgrpo_rewards.errors import UserError

GIB = 2**30
# what a driver puts there: NVIDIA's (on Tegra too), WSL's, AMD's
DEVICES = ("nvidia*", "nvhost*", "dxg", "kfd")


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a plan needs to know of a GPU."""

    name: str  # as people say it
    memory_gib: float  # what a program can use, a little under the number on the box
    bfloat16: bool  # whether it computes in bfloat16; Turing and older ones do not
    tflops: float | None  # dense, bfloat16 with float32 sums, else float32; None: not in the table
    bandwidth_gb_s: float | None  # of the memory; None: not in the table
    float16_tflops: float | None = None  # of float16 factors, where that is another rate
    is_measured: bool = False  # our steps were timed on one; elsewhere a time is scaled


# any other GPU is planned for on the machine that has it
TABLE = (
    Gpu("RTX 4060", 7.6, bfloat16=True, tflops=30, bandwidth_gb_s=272),
    Gpu("T4", 14.6, bfloat16=False, tflops=8.1, bandwidth_gb_s=320, float16_tflops=65),
    Gpu("RTX 4080", 15.6, bfloat16=True, tflops=97, bandwidth_gb_s=717),
    Gpu("L4", 22.0, bfloat16=True, tflops=121, bandwidth_gb_s=300),
    Gpu("A10", 22.0, bfloat16=True, tflops=125, bandwidth_gb_s=600),
    Gpu("A10G", 22.0, bfloat16=True, tflops=70, bandwidth_gb_s=600),
    Gpu("RTX 3090", 23.6, bfloat16=True, tflops=71, bandwidth_gb_s=936),
    Gpu("RTX 4090", 23.5, bfloat16=True, tflops=165, bandwidth_gb_s=1008),
    Gpu("A100-40", 39.4, bfloat16=True, tflops=312, bandwidth_gb_s=1555),
    Gpu("A100-80", 79.2, bfloat16=True, tflops=312, bandwidth_gb_s=2039),
    Gpu("H100", 79.2, bfloat16=True, tflops=989, bandwidth_gb_s=3350, is_measured=True),
    Gpu("H200", 139.8, bfloat16=True, tflops=989, bandwidth_gb_s=4800, is_measured=True),
)


def find_gpu(name: str) -> Gpu:
    """Look a GPU up, however it is written: `rtx4090`, `RTX 4090` and `4090` are one.

    Raises:
        UserError: not in the table, or one of several.
    """
    wanted = _plain(name)
    known = {_plain(gpu.name): gpu for gpu in TABLE}
    if wanted in known:
        return known[wanted]
    family = [gpu.name for plain, gpu in known.items() if wanted and plain.startswith(wanted)]
    if family:
        raise UserError(f"GPU {name!r} is one of several; name one: {', '.join(family)}")
    close = [known[plain].name for plain in difflib.get_close_matches(wanted, known, 2, 0.5)]
    hint = f"did you mean {' or '.join(close)}? Known" if close else "known"
    raise UserError(
        f"no GPU {name!r} in the table; {hint}: {', '.join(gpu.name for gpu in TABLE)}. On the "
        "machine that has it, leave --gpu out"
    )


def found_gpu() -> Gpu | None:
    """The first GPU of this machine, with its own memory; None without one."""
    if not has_driver():  # importing torch takes seconds
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    found = torch.cuda.get_device_properties(0)
    memory_gib = found.total_memory / GIB
    bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    own = Gpu(found.name, memory_gib, bfloat16, tflops=None, bandwidth_gb_s=None)
    like = nearest_gpu(found.name, memory_gib) or own
    return replace(like, name=own.name, memory_gib=own.memory_gib, bfloat16=own.bfloat16)


def nearest_gpu(full_name: str, memory_gib: float) -> Gpu | None:
    """The table's entry for a driver's name, such as `NVIDIA A100-SXM4-80GB`, for its speed."""
    words = re.findall(r"[a-z0-9]+", full_name.lower())
    named = [gpu for gpu in TABLE if gpu.name.lower().removeprefix("rtx ").split("-")[0] in words]
    return min(named, key=lambda gpu: abs(gpu.memory_gib - memory_gib), default=None)


def has_driver(devices: Path = Path("/dev")) -> bool:
    """Whether a driver has put a GPU among the device files; without one torch finds none."""
    return any(True for name in DEVICES for _ in devices.glob(name))


def machine_gib() -> float:
    """The memory of this machine, without its GPUs'."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB


def _plain(name: str) -> str:
    """Letters and digits only, without what is said of every GPU of a maker."""
    letters = "".join(c for c in name.lower() if c.isalnum())
    for word in ("nvidia", "geforce", "tesla", "rtx"):
        letters = letters.removeprefix(word)
    return letters
