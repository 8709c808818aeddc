"""The energy that a GPU has used, where its driver counts it.

NVML, which comes with NVIDIA's driver, counts the energy of a whole card since the driver was
loaded (Volta and later; not of a part of a card, as MIG cuts them).  Three of its functions are
called as they stand on the machine, so that nothing has to be installed for them.
"""

import ctypes
import sys
from functools import cache

NVML = "libnvidia-ml.so.1"
CALLED = ("nvmlInit_v2", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetTotalEnergyConsumption")
SUCCESS = 0


def gpu_energy_j() -> float | None:
    """Joules that the card of this process has used since some moment; None where nobody counts.

    Two readings of one process can be subtracted.
    """
    torch = sys.modules.get("torch")  # without it no GPU is used
    if torch is None or not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return _energy_j(f"GPU-{getattr(properties, 'uuid', '')}")


def _energy_j(uuid: str) -> float | None:
    nvml = _nvml()
    handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
    if nvml is None:
        return None
    # not numbered as torch does it: CUDA_VISIBLE_DEVICES hides cards from torch alone
    if nvml.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle)) != SUCCESS:
        return None
    if nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)) != SUCCESS:
        return None
    return millijoules.value / 1000


@cache
def _nvml() -> ctypes.CDLL | None:
    """The library, ready to be asked; None without a driver, or with one that is too old."""
    try:
        nvml = ctypes.CDLL(NVML)
    except OSError:
        return None
    knows = all(hasattr(nvml, name) for name in CALLED)
    return nvml if knows and nvml.nvmlInit_v2() == SUCCESS else None
