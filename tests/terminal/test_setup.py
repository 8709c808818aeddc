"""`make setup`, the real script with the real pip, on packages that are a few bytes each."""

import shutil
from pathlib import Path

import pytest

from screen import ROOT, SCREENS, started
from shown import check
from tiny_wheel import write_wheel

pytestmark = pytest.mark.terminal

PACKAGES = ("rewards", "rollout", "trainer", "evaluator", "exporter")
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "tiny_wheel"\nbackend-path = ["."]\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose locks name two small wheels that lie beside it, and five empty packages."""
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
    words, own = ["make", "setup"], environment(checkout)
    with started(words, SCREENS[on], cwd=checkout, environment=own) as running:
        running.until("Set-up, once")
        running.press_ctrl_c()
        running.end()
    assert not (checkout / ".venv/.stamp").exists()
    with started(words, SCREENS[on], cwd=checkout, environment=own) as running:
        shown = check(running.end())
    assert shown.lines[-1] == ".venv is ready"
    assert (checkout / ".venv/.stamp").exists()
