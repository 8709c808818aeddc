"""A process among others: its place, its GPU, its part of a list of prompts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.ranks import processes as ranks_module
from xmlgrpo_trainer.ranks.processes import (
    ALONE,
    EndedElsewhere,
    Ranks,
    check_gpus,
    gpu_count,
    ranks_here,
    see_one_gpu,
)

NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({}, Ranks(0, 0, 1, 1), id="alone"),
        pytest.param(
            {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"},
            Ranks(index=5, local_index=1, count=8, local_count=4),
            id="second-machine",
        ),
    ],
)
def test_a_process_reads_its_place_from_the_environment(
    environment: dict[str, str], expected: Ranks, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ranks_here() == expected


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        pytest.param(None, "0", id="all-of-the-machine's"),
        pytest.param("2,3", "2", id="two-that-were-given"),
        pytest.param("GPU-8932f937", "GPU-8932f937", id="by-name"),
        pytest.param("", "", id="none"),
    ],
)
def test_a_process_that_is_alone_sees_one_gpu(
    visible: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*NAMES, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with monkeypatch.context() as changed:
        changed.setenv("CUDA_VISIBLE_DEVICES", visible if visible is not None else "0")
        see_one_gpu()
        assert os.environ["CUDA_VISIBLE_DEVICES"] == expected


def test_one_of_several_processes_sees_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    see_one_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_processes_without_a_gpu_of_their_own_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(UserError, match="torch finds 2 GPUs on this machine"):
        check_gpus(3, "auto")


@pytest.mark.parametrize("text", ["two", "0", "-1", "1.5", ""])
def test_a_number_of_gpus_is_a_whole_one(text: str) -> None:
    with pytest.raises(UserError, match=f"--gpus: expected .* at least 1, got '{text}'"):
        gpu_count(text)
    assert gpu_count("2") == 2


@pytest.mark.parametrize(("processes", "device"), [(2, "cuda"), (4, "cpu")])
def test_processes_with_what_they_need_are_not(
    processes: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    check_gpus(processes, device)


def test_alone_every_stage_is_the_plain_call() -> None:
    def fails() -> None:
        raise UserError("no")

    assert ALONE.gather(3) == [3]
    assert ALONE.on_first(lambda: 4) == ALONE.together(lambda: 4) == 4
    for stage in (ALONE.on_first, ALONE.together, ALONE.alike):
        with pytest.raises(UserError, match="no"):
            stage(fails)


def test_only_the_first_rank_says_what_all_know() -> None:
    error = UserError("the disk is full")
    assert Ranks(index=0, count=2).everywhere(error) is error
    assert isinstance(Ranks(index=1, count=2).everywhere(error), EndedElsewhere)


MEETING = """
import sys
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import BadRow
from xmlgrpo_trainer.ranks.processes import EndedElsewhere, joined


def bad_row():
    if ranks.index == int(sys.argv[1]):
        raise BadRow("train-7", "an answer", "nothing")
    return ranks.index


# a file each: what two processes print into one pipe can be mixed
with joined("cpu", 60) as ranks, open(f"{sys.argv[2]}/{ranks.index}", "w") as shown:
    assert ranks.gather(ranks.index * 10) == [0, 10]
    assert ranks.on_first(lambda: ranks.index) == 0
    assert ranks.together(lambda: ranks.index) == ranks.index
    for stage in (ranks.together, ranks.on_first, ranks.alike):
        try:
            result = stage(bad_row)
        except (UserError, EndedElsewhere) as error:
            print(stage.__name__, type(error).__name__, error, file=shown)
        else:
            print(stage.__name__, result, file=shown)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failing", "first", "second"),
    [
        pytest.param(
            1,
            ["together UserError", "on_first 0", "alike UserError"],
            ["together EndedElsewhere", "on_first 0", "alike UserError"],
            id="on-the-second",
        ),
        pytest.param(
            0,
            ["together UserError", "on_first UserError", "alike UserError"],
            ["together EndedElsewhere", "on_first EndedElsewhere", "alike UserError"],
            id="on-the-first",
        ),
    ],
)
def test_what_one_of_two_processes_finds_both_know(
    failing: int, first: list[str], second: list[str], tmp_path: Path
) -> None:
    script = tmp_path / "meeting.py"
    script.write_text(MEETING)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    ran = subprocess.run(
        [sys.executable, *torchrun, str(script), str(failing), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    for index, expected in enumerate((first, second)):
        lines = (tmp_path / str(index)).read_text().splitlines()
        for line, words in zip(lines, expected, strict=True):
            assert line.startswith(words)
            assert ("train-7" in line) == ("on_first 0" not in words)


def test_the_messages_of_a_lost_process_name_no_build_path() -> None:
    shown = str(ranks_module._left_alone(Ranks(index=0, local_index=0, count=2, local_count=2)))
    assert "process 0 of 2 has lost another one" in shown
