"""Threads to decode with: trees of /proc and /sys as Linux, Docker and Slurm show them."""

import os
from math import inf
from pathlib import Path

import pytest

from xmlgrpo_gguf import threads
from xmlgrpo_gguf.threads import cpu_quota, decoding_threads, free_cores, usable_cores

ALLOWED = 4


@pytest.fixture(autouse=True)
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_allowed", lambda: set(range(ALLOWED)))


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def stat(idle: list[int], waiting: int = 0) -> str:
    """What /proc/stat says when each CPU has been idle for so many ticks."""
    rows = [f"cpu{n} 900 0 80 {ticks} {waiting} 0 7 0 0 0" for n, ticks in enumerate(idle)]
    return "\n".join((f"cpu  9000 0 800 {sum(idle)} 0 0 70 0 0 0", *rows, "intr 5 0", "btime 1"))


@pytest.mark.parametrize(
    ("idle_ticks", "files", "free"),
    [
        pytest.param([25, 25, 25, 25], {}, 4, id="nothing-else-runs"),
        pytest.param([0, 0, 0, 0], {}, 1, id="all-busy-and-still-one"),
        pytest.param([0, 25, 24, 1], {}, 2, id="two-are-busy"),
        pytest.param([13, 25, 25, 25, 25, 25], {}, 4, id="other-cpus-than-ours-do-not-count"),
        pytest.param(
            [25, 25, 25, 25],
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"},
            2,
            id="a-container-of-two-and-a-half-cpus",
        ),
        pytest.param(
            [25, 25, 25, 25],
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"},
            1,
            id="a-container-of-half-a-cpu",
        ),
    ],
)
def test_free_is_what_is_idle_ours_and_paid_for(
    tmp_path: Path, idle_ticks: list[int], files: dict[str, str], free: int
) -> None:
    write(tmp_path, {"proc/stat": stat([1000] * len(idle_ticks)), **files})

    def wait(seconds: float) -> None:
        assert seconds * threads.TICKS_A_SECOND == 25
        write(tmp_path, {"proc/stat": stat([1000 + ticks for ticks in idle_ticks])})

    assert free_cores(tmp_path, wait) == free


def test_a_cpu_that_waits_for_the_disk_is_free(tmp_path: Path) -> None:
    write(tmp_path, {"proc/stat": stat([0] * 4, waiting=0)})
    free = free_cores(tmp_path, lambda _s: write(tmp_path, {"proc/stat": stat([0] * 4, 25)}))
    assert free == 4


def test_where_there_is_no_proc_every_cpu_counts(tmp_path: Path) -> None:
    assert free_cores(tmp_path) == os.cpu_count()


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        pytest.param({}, inf, id="no-control-groups"),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"},
            inf,
            id="v2-without-a-limit",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/jobs.slice/job-7.scope\n",
                "sys/fs/cgroup/jobs.slice/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/jobs.slice/job-7.scope/cpu.max": "max 100000\n",
            },
            3,
            id="v2-the-limit-of-a-group-above",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/docker/4f5c\n4:memory:/docker/4f5c\n0::/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            1.5,
            id="v1-a-container-that-sees-its-group-as-the-top",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "2:cpuacct:/\n1:cpu:/slurm/job_7\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/slurm/job_7/cpu.cfs_quota_us": "800000\n",
                "sys/fs/cgroup/cpu/slurm/job_7/cpu.cfs_period_us": "100000\n",
            },
            8,
            id="v1-a-batch-job",
        ),
    ],
)
def test_the_quota_of_a_container_or_a_job(
    tmp_path: Path, files: dict[str, str], quota: float
) -> None:
    write(tmp_path, files)
    assert cpu_quota(tmp_path) == quota


@pytest.mark.parametrize(
    ("parameters", "tokens", "free", "chosen"),
    [
        pytest.param(700_000, 32, 64, 1, id="the-tiny-model-on-an-idle-server"),
        pytest.param(268_098_176, 1, 64, 1, id="gemma-3-270m-writes-one-reply"),
        pytest.param(268_098_176, 32, 64, 34, id="gemma-3-270m-writes-many"),
        pytest.param(268_098_176, 32, 1, 1, id="many-on-a-busy-machine"),
        pytest.param(999_885_952, 1, 64, 3, id="gemma-3-1b-does-not-feed-64"),
        pytest.param(3_880_099_328, 1, 2, 2, id="gemma-3-4b-on-two-idle-cores"),
    ],
)
def test_threads_by_the_models_size_and_the_free_cores(
    monkeypatch: pytest.MonkeyPatch, parameters: int, tokens: int, free: int, chosen: int
) -> None:
    monkeypatch.setattr(threads, "free_cores", lambda: free)
    assert decoding_threads(parameters, tokens) == chosen


@pytest.mark.parametrize("asked", ["0", "-1", "all", ""])
def test_what_the_user_asks_for_counts(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert decoding_threads(700_000) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert decoding_threads(700_000) == 1, "what is no number of threads asks for nothing"


def test_this_machine_has_a_core_for_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    cpus = os.cpu_count() or 1
    assert 1 <= free_cores() <= cpus
    assert 1 <= usable_cores() <= cpus
