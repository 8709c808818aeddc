"""GPUs by name: memory, bfloat16 and speed.

From NVIDIA's data sheets: dense rates, without sparsity.
"""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from xmlgrpo_rewards.errors import UserError

GIB = 2**30
# what a driver puts there: NVIDIA's (on Tegra too), WSL's, AMD's
DEVICES = ("nvidia*", "nvhost*", "dxg", "kfd")


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a plan needs to know of a GPU.

    Attributes:
        name: as people say it.
        memory_gib: what a program can use, a little under the round number on the box.
        bfloat16: whether it computes in bfloat16; Turing, Volta and Pascal do not.
        tflops: matrix products in the number type that training uses there: bfloat16 with float32
            sums, or float32 where there is no bfloat16.  None: a GPU that is not in the table.
        bandwidth_gb_s: of the memory.  None: not in the table.
        is_measured: our steps were timed on one; elsewhere a time is scaled by the data sheets.
    """

    name: str
    memory_gib: float
    bfloat16: bool
    tflops: float | None
    bandwidth_gb_s: float | None
    is_measured: bool = False


TABLE = (
    Gpu("P100", 15.9, bfloat16=False, tflops=9.5, bandwidth_gb_s=732),
    Gpu("V100-16", 15.7, bfloat16=False, tflops=15.7, bandwidth_gb_s=900),
    Gpu("V100-32", 31.7, bfloat16=False, tflops=15.7, bandwidth_gb_s=900),
    Gpu("T4", 14.6, bfloat16=False, tflops=8.1, bandwidth_gb_s=320),
    Gpu("RTX 2080 Ti", 10.7, bfloat16=False, tflops=13.4, bandwidth_gb_s=616),
    Gpu("RTX 3060", 11.6, bfloat16=True, tflops=25, bandwidth_gb_s=360),
    Gpu("RTX 3090", 23.6, bfloat16=True, tflops=71, bandwidth_gb_s=936),
    Gpu("RTX 4060", 7.6, bfloat16=True, tflops=30, bandwidth_gb_s=272),
    Gpu("RTX 4060 Ti 16GB", 15.6, bfloat16=True, tflops=44, bandwidth_gb_s=288),
    Gpu("RTX 4080", 15.6, bfloat16=True, tflops=97, bandwidth_gb_s=717),
    Gpu("RTX 4090", 23.5, bfloat16=True, tflops=165, bandwidth_gb_s=1008),
    Gpu("RTX 5090", 31.4, bfloat16=True, tflops=209, bandwidth_gb_s=1792),
    Gpu("RTX A6000", 47.4, bfloat16=True, tflops=155, bandwidth_gb_s=768),
    Gpu("RTX 6000 Ada", 47.4, bfloat16=True, tflops=364, bandwidth_gb_s=960),
    Gpu("A10G", 22.0, bfloat16=True, tflops=70, bandwidth_gb_s=600),
    Gpu("L4", 22.0, bfloat16=True, tflops=121, bandwidth_gb_s=300),
    Gpu("L40S", 44.4, bfloat16=True, tflops=362, bandwidth_gb_s=864),
    Gpu("A100-40", 39.4, bfloat16=True, tflops=312, bandwidth_gb_s=1555),
    Gpu("A100-80", 79.2, bfloat16=True, tflops=312, bandwidth_gb_s=2039),
    Gpu("H100", 79.2, bfloat16=True, tflops=989, bandwidth_gb_s=3350, is_measured=True),
    Gpu("H200", 139.8, bfloat16=True, tflops=989, bandwidth_gb_s=4800, is_measured=True),
    Gpu("B200", 178.0, bfloat16=True, tflops=2250, bandwidth_gb_s=8000),
)


def find_gpu(name: str) -> Gpu:
    """Look a GPU up, however it is written: `rtx4090`, `RTX 4090` and `4090` are one.

    Raises:
        UserError: not in the table, or one of several.
    """
    wanted = _plain(name)
    for gpu in TABLE:
        if wanted in (_plain(gpu.name), _plain(gpu.name).removeprefix("rtx")):
            return gpu
    families = [gpu.name for gpu in TABLE if wanted and _plain(gpu.name).startswith(wanted)]
    if families:
        raise UserError(f"GPU {name!r} is one of several; name one: {', '.join(families)}")
    plain_names = {_plain(gpu.name): gpu.name for gpu in TABLE}
    close = difflib.get_close_matches(wanted, plain_names, n=2, cutoff=0.5)
    known = "known"
    if close:
        known = f"did you mean {' or '.join(plain_names[c] for c in close)}? Known"
    raise UserError(
        f"no GPU {name!r} in the table; {known}: {', '.join(gpu.name for gpu in TABLE)}"
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
    like = nearest_gpu(found.name, memory_gib)
    return Gpu(
        name=found.name,
        memory_gib=memory_gib,
        bfloat16=torch.cuda.is_bf16_supported(including_emulation=False),
        tflops=like.tflops if like else None,
        bandwidth_gb_s=like.bandwidth_gb_s if like else None,
        is_measured=like is not None and like.is_measured,
    )


def has_driver(devices: Path = Path("/dev")) -> bool:
    """Whether a driver has put a GPU among the device files; without one torch finds none."""
    return any(True for name in DEVICES for _ in devices.glob(name))


def machine_gib() -> float:
    """The memory of this machine, without its GPUs'."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB


def nearest_gpu(full_name: str, memory_gib: float) -> Gpu | None:
    """The table's entry for a driver's name, such as `NVIDIA A100-SXM4-80GB`, for its speed."""
    plain = _plain(full_name)
    named = [gpu for gpu in TABLE if _plain(gpu.name.partition("-")[0]) in plain]
    if not named:
        return None
    # L4 stands in L40S too: the longest name; of one name, the nearest memory
    return max(
        named,
        key=lambda gpu: (len(gpu.name.partition("-")[0]), -abs(gpu.memory_gib - memory_gib)),
    )


def _plain(name: str) -> str:
    letters = "".join(c for c in name.lower() if c.isalnum())
    return letters.removeprefix("nvidia").removeprefix("geforce").removeprefix("tesla")
