"""What a step takes of a GPU, as torch and the driver count it; stand-ins take their place here."""

import sys
from types import SimpleNamespace

import pytest

from xmlgrpo_run.measures import energy
from xmlgrpo_run.measures.energy import gpu_energy_j
from xmlgrpo_run.measures.memory import peak_memory_mib

UUID = "5f8a7ac1-0000-1111-2222-333344445555"


def torch_of(allocated, *, gpu=True):
    return SimpleNamespace(
        cuda=SimpleNamespace(
            is_available=lambda: gpu,
            max_memory_allocated=lambda: allocated,
            current_device=lambda: 1,
            get_device_properties=lambda n: SimpleNamespace(uuid=UUID if n == 1 else ""),
        )
    )


def driver(*, knows=0, counts=0):
    """NVML as a card that has used 5,250 J sees it; a function that fails gives its error code."""

    def handle(uuid, place):
        assert uuid == f"GPU-{UUID}".encode(), "by its name, whatever CUDA_VISIBLE_DEVICES hides"
        place._obj.value = 7
        return knows

    def total(handle, place):
        assert handle.value == 7
        place._obj.value = 5_250_000
        return counts

    return SimpleNamespace(
        nvmlDeviceGetHandleByUUID=handle, nvmlDeviceGetTotalEnergyConsumption=total
    )


@pytest.mark.parametrize(
    ("torch", "nvml", "joules"),
    [
        pytest.param(torch_of(0), driver(), 5250.0, id="counted"),
        pytest.param(torch_of(0), driver(knows=6), None, id="part-of-a-card"),
        pytest.param(torch_of(0), driver(counts=3), None, id="too-old-a-card"),
        pytest.param(torch_of(0), None, None, id="no-driver"),
        pytest.param(torch_of(0, gpu=False), driver(), None, id="on-a-cpu"),
        pytest.param(None, driver(), None, id="without-torch"),
    ],
)
def test_energy_is_what_the_driver_counts(monkeypatch, torch, nvml, joules):
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(energy, "_nvml", lambda: nvml)
    assert gpu_energy_j() == joules


def test_a_library_that_is_none_is_no_driver(monkeypatch):
    for name in ("libnot-there.so.1", "libc.so.6"):
        monkeypatch.setattr(energy, "NVML", name)
        energy._nvml.cache_clear()
        assert energy._nvml() is None
    energy._nvml.cache_clear()


def test_peak_memory_is_the_gpus_where_it_was_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", torch_of(3 * 2**30))
    assert peak_memory_mib() == 3072.0
    monkeypatch.setitem(sys.modules, "torch", torch_of(0))
    assert peak_memory_mib() > 5, "of this process"
