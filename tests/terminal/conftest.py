"""What the commands are tried on: a run of a model so small that every stage takes seconds."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from .screen import ROOT, SCREENS, record, train
from .shown import check


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with one finished run, `sums`, which no test may change or hold.

    The run is trained in a pipe, once for all processes of a pytest session.
    """
    base = tmp_path_factory.getbasetemp()
    house = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"
    house.mkdir(exist_ok=True)
    with (house / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (house / "outputs/sums/manifest.json").is_file():
            shutil.copytree(ROOT / "configs", house / "configs", dirs_exist_ok=True)
            words = train("sums", max_steps=4)
            check(record(words, SCREENS["pipe"], cwd=house, loaded=True))
    return house


@pytest.fixture
def house(trained: Path, tmp_path: Path) -> Path:
    """A working folder of one test, with a finished run to change and the base that it needs."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path
