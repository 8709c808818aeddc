"""The scripts of bench/ as a person meets them: in the README, with --help, with nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "bench"
COMMANDS = [
    path for path in sorted(FOLDER.rglob("*.py")) if '__name__ == "__main__"' in path.read_text()
]


def called(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"bench.{script}", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.parametrize("script", COMMANDS, ids=lambda path: path.name)
def test_the_readme_says_what_it_is_for(script: Path) -> None:
    assert f"`{script.relative_to(FOLDER)}`" in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.scripts
@pytest.mark.parametrize(
    "name",
    [
        "answering.rollout_scaling",
        "several_gpus.scaling",
        "training.backends",
        "training.peaks",
        "training.steps",
    ],
)
def test_help_needs_no_gpu_and_no_triton(name: str) -> None:
    done = called(name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {name.rpartition('.')[2]}.py")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param([], "arguments are required: memory, command", id="nothing"),
        pytest.param(["m.json", "no-such"], "an installed command, got 'no-such'", id="command"),
    ],
)
def test_a_command_line_says_what_it_takes(words: list[str], told: str) -> None:
    done = called("shared.measured_command", *words)
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[-1]


def test_it_hands_every_word_to_the_command(tmp_path: Path) -> None:
    done = called("shared.measured_command", str(tmp_path / "m.json"), "xmlgrpo-plan", "--help")
    assert done.returncode == 0
    assert "usage: xmlgrpo-plan" in done.stdout
    assert not (tmp_path / "m.json").exists(), "no GPU was used"
