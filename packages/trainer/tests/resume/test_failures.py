"""A full disk and a full GPU are one sentence, whichever library met them."""

import errno
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.grpo.trainer import steps_between_generations
from xmlgrpo_trainer.resume.failures import check_room, failures_in_words

# a file may not grow beyond 64 KiB: what a full disk is to the library that writes
SAVE_WITHOUT_SPACE = """
import resource, signal, sys
sys.dont_write_bytecode = True  # Python takes a short write of a .pyc for a whole one
from pathlib import Path
import torch
from safetensors.torch import save_file
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.resume.failures import failures_in_words
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    with failures_in_words(Path(sys.argv[1])):
        save_file({"weights": torch.zeros(100_000)}, Path(sys.argv[1]) / "adapter.safetensors")
except UserError as error:
    print(error)
"""


def test_safetensors_without_space_is_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SAVE_WITHOUT_SPACE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "could not be written (" in done.stdout
    assert "earlier checkpoints are kept. Free some space and run the same command" in done.stdout


BUILD_WITHOUT_SPACE = """
import resource, signal, sys
sys.dont_write_bytecode = True
from pathlib import Path
from rich.console import Console
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config.run_config import load_config
from xmlgrpo_trainer.prepare import base_model
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
config = load_config(Path(sys.argv[1]), ["model.tiny.warm_steps=2"])
try:
    base_model(config, Path(sys.argv[2]), Console())
except UserError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_disk_that_fills_while_the_base_model_is_built(tmp_path: Path) -> None:
    config = Path(__file__).resolve().parents[4] / "configs" / "tiny.yaml"
    done = subprocess.run(
        [sys.executable, "-c", BUILD_WITHOUT_SPACE, str(config), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "could not be written (" in done.stdout
    assert not [
        path for path in (tmp_path / "base").iterdir() if path.is_dir()
    ]  # nothing by halves


def test_a_full_gpu_names_the_keys_that_help(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"per_device_train_batch_size.*holdout\.batch_size"),
        failures_in_words(tmp_path),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize("error", [ValueError("a bug"), RuntimeError("size mismatch")])
def test_what_is_no_shortage_passes_through(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, failures_in_words(tmp_path):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("per_generation", "iterations", "accumulation", "steps"),
    [(1, 1, 1, 1), (4, 1, 4, 1), (4, 1, 1, 4), (1, 2, 1, 2), (3, 1, 2, 3), (3, 2, 4, 3)],
)
def test_steps_between_two_generations(
    per_generation: int, iterations: int, accumulation: int, steps: int
) -> None:
    arguments = SimpleNamespace(
        steps_per_generation=per_generation,
        num_iterations=iterations,
        gradient_accumulation_steps=accumulation,
    )
    assert steps_between_generations(arguments) == steps


def test_a_run_that_would_fill_the_disk_is_refused(tmp_path: Path) -> None:
    arguments = SimpleNamespace(save_total_limit=2)
    check_room(tmp_path, arguments, 0)
    with pytest.raises(
        UserError,
        match=r"expected about 1\d{6}\.\d GiB free in .*lower grpo.save_total",
    ):
        check_room(tmp_path, arguments, 30 * 2**40)  # 3 checkpoints x 12 bytes x 30 Ti weights


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        RuntimeError("I/O error: Input/output error (os error 5)"),  # safetensors' words
    ],
    ids=["python", "safetensors"],
)
def test_a_disk_that_fails_is_one_sentence(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(UserError, match=r"could not be written \(.*are kept\. Look at the"),
        failures_in_words(tmp_path),
    ):
        raise error
