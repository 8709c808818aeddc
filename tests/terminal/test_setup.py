"""`make setup`, the real script with the real pip, on packages that are a few bytes each."""

import os
import shutil
import time
from pathlib import Path

import pytest

from ci.checks.environments import PACKAGES

from .screen import ROOT, SCREENS, record, started
from .shown import check
from .tiny_wheel import write_wheel

pytestmark = pytest.mark.terminal

PROJECT = '[build-system]\nrequires = []\nbuild-backend = "tiny_wheel"\nbackend-path = ["."]\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose locks name two small wheels that lie beside it, and empty packages."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "ci", tmp_path / "ci", ignore=shutil.ignore_patterns("gpu"))
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for lock in ("base", "dev"):
        write_wheel(wheels, f"tiny_{lock}", {f"tiny_{lock}/{n}.py": "" for n in range(500)})
        (tmp_path / f"ci/requirements/{lock}.txt").write_text(f"tiny_{lock}==1.0\n")
    for package in PACKAGES:
        folder = tmp_path / "packages" / package
        folder.mkdir(parents=True)
        (folder / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
        shutil.copy(Path(__file__).with_name("tiny_wheel.py"), folder)
    return tmp_path


def environment(checkout: Path) -> dict[str, str]:
    """Pip without an index, and without this machine's settings."""
    return {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(checkout / "wheels"),
        "PIP_CONFIG_FILE": "/dev/null",
    }


@pytest.mark.parametrize("on", ["80", "dumb", "pipe"])
def test_setup_is_interrupted_and_goes_on(checkout: Path, on: str) -> None:
    own = environment(checkout)
    # without make, whose own last words after Ctrl-C are not always the same
    with started(["ci/setup/setup.sh"], SCREENS[on], cwd=checkout, environment=own) as running:
        running.until("Set-up, once")
        running.press_ctrl_c()
        shown = check(running.end(), code=130)
    assert "what was unpacked is kept, and make setup goes on" in " ".join(shown.lines)
    assert not (checkout / ".venv/.stamp").exists()
    shown = check(record(["make", "setup"], SCREENS[on], cwd=checkout, environment=own))
    assert shown.lines[-1] == ".venv is ready"
    assert (checkout / ".venv/.stamp").exists()


def test_setup_that_was_cut_off_goes_on_and_a_moved_folder_is_noticed(checkout: Path) -> None:
    """One checkout through its life: cut off in the middle, ready, touched, moved."""
    words, own = ["make", "setup"], environment(checkout)
    with started(words, SCREENS["80"], cwd=checkout, environment=own) as running:
        running.until("Set-up, once")
        until(checkout / ".venv/setup.state")  # then the terminal is closed
    [site] = (checkout / ".venv/lib").glob("python3.*/site-packages")
    half = site / "tiny_base-1.0.dist-info"  # what pip leaves of a package it was unpacking
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    (half / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny_base\nVersion: 1.0\n")

    shown = check(record(words, SCREENS["100"], cwd=checkout, environment=own))
    assert "Set-up goes on: the last one was stopped before its end" in shown.text
    assert (site / "tiny_base" / "499.py").is_file()
    assert (half / "RECORD").is_file()
    assert not (checkout / ".venv/tmp").exists()

    earlier = time.time() - 1000
    os.utime(
        checkout / ".venv/.stamp", (earlier, earlier)
    )  # the locks are newer, as after a checkout
    shown = check(record(words, SCREENS["120"], cwd=checkout, environment=own))
    assert shown.lines == (".venv is ready",)

    shown = check(record([*words, "PYTHON=/nonexistent"], SCREENS["pipe"], cwd=checkout), code=2)
    assert "tried: /nonexistent. Install one" in shown.text

    moved = checkout.rename(checkout.with_name("elsewhere"))
    own = environment(moved)
    with started(["ci/setup/setup.sh"], SCREENS["80"], cwd=moved, environment=own) as running:
        running.until("Set-up anew")
        until_gone(moved / ".venv/.stamp")  # make would take the half that is left for ready
        running.press_ctrl_c()
        check(running.end(), code=130)
    shown = check(record(words, SCREENS["no-color"], cwd=moved, environment=own))
    assert "Set-up" in shown.text
    assert str(moved) in (moved / ".venv/pyvenv.cfg").read_text()
    shown = check(record(words, SCREENS["80"], cwd=moved, environment=own))
    assert shown.lines == (".venv is ready",)


def until(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path.name} in two minutes"
        time.sleep(0.02)


def until_gone(path: Path) -> None:
    deadline = time.monotonic() + 120
    while path.exists():
        assert time.monotonic() < deadline, f"{path} is still there"
        time.sleep(0.01)
