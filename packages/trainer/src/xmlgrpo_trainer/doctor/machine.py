"""What this machine has, what is missing, and what it takes to add it."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import extras, get_task, task_names
from xmlgrpo_run.checkout import installed_version
from xmlgrpo_run.disk import GIB, free_bytes
from xmlgrpo_trainer.doctor.finding import JUDGEMENT, Finding, Level
from xmlgrpo_trainer.plan.gpus import found_gpu, machine_gib

# package, what it is for, how to get it
OPTIONAL = (
    (
        "unsloth",
        "another GPU backend, with its own 4-bit and memory-saving kernels",
        ".venv/bin/pip install -r ci/requirements/unsloth.txt (needs a GPU; see docs/results.md)",
    ),
    ("bitsandbytes", "4-bit weights", ".venv/bin/pip install bitsandbytes (needs a GPU)"),
    (
        "liger-kernel",
        "logits in chunks, less memory",
        ".venv/bin/pip install liger-kernel (needs a GPU)",
    ),
    ("vllm", "rollouts by vLLM", "a version that fits this torch, from vllm.ai (needs a GPU)"),
    ("llama-cpp-python", "GGUF files", "make gguf-setup (about 3 minutes, needs a C++ compiler)"),
    (
        "wandb",
        "tracking with wandb",
        ".venv/bin/pip install wandb, then watch.wandb=online or offline",
    ),
)
LEAST_DISK_GIB, ENOUGH_DISK_GIB = 1.0, 5.0  # judgement: a tiny run; a 1B run with its exports
LOCK, NEWEST = (Path("ci/requirements") / name for name in ("base.txt", "newest.txt"))
# a line such as `numpy==2.4.6 ; python_version < "3.12"`, without the hashes that may follow
PINNED = re.compile(r"^[A-Za-z0-9_.-]+==[^\\#\n]+", re.MULTILINE)


def check_machine(folder: Path) -> Iterator[Finding]:
    """Every check of the machine, each finding as soon as it is made.

    Args:
        folder: where runs are written; its disk is looked at, and the checkout it belongs to.
    """
    for check in CHECKS:
        yield from check(folder)


def python(_folder: Path) -> Iterator[Finding]:
    """The interpreter."""
    running = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        yield Finding("ok", "python", running)
    else:
        advice = "make setup PYTHON=/path/to/python3.12"
        yield Finding("bad", "python", f"{running} (3.11 to 3.13)", advice)


def torch_and_gpu(_folder: Path) -> Iterator[Finding]:
    """Does this torch see the GPU that the machine has, and does it compute in bfloat16?"""
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("bad", "gpu", f"torch cannot be imported: {error}", "make clean, make setup")
        return
    build, listed, gpu = f"torch {torch.__version__}", _listed_gpus(), found_gpu()
    if gpu is not None:
        yield Finding("ok", "gpu", f"{gpu.name}, {gpu.memory_gib:.1f} GiB ({build})")
        if gpu.bfloat16:
            yield Finding("ok", "bfloat16", "computed by this GPU")
        else:
            yield Finding(
                "warning",
                "bfloat16",
                "not computed by this GPU, and Gemma 3 overflows in float16",
                "model.dtype auto takes float32: twice the memory, and slower",
            )
    elif not listed:
        words = f"none ({build}); configs/tiny.yaml needs none, others do"
        yield Finding("note", "gpu", words)
    elif torch.version.cuda is None:
        yield Finding(
            "bad",
            "gpu",
            f"nvidia-smi lists {listed[0]}, but {build} is a CPU build",
            "install a CUDA build: make setup TORCH_INDEX=<the index of your CUDA version, see "
            "pytorch.org>",
        )
    else:
        yield Finding(
            "bad",
            "gpu",
            f"nvidia-smi lists {listed[0]}, but {build} (CUDA {torch.version.cuda}) cannot use it",
            "is the driver too old for that CUDA version, or CUDA_VISIBLE_DEVICES empty "
            f"(it is {os.environ.get('CUDA_VISIBLE_DEVICES')!r})?",
        )


def _listed_gpus() -> list[str]:
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in listed.stdout.splitlines() if line.strip()]


def own_requirements(_folder: Path) -> Iterator[Finding]:
    """Are the libraries those that this package asks for?"""
    wrong, _ = _differing(requires("xmlgrpo-trainer") or [])
    if wrong:
        yield Finding("bad", "libraries", "; ".join(wrong), "make setup")
    else:
        named = ", ".join(
            f"{name} {installed_version(name)}" for name in ("trl", "transformers", "peft")
        )
        yield Finding("ok", "libraries", named)


def lock(folder: Path) -> Iterator[Finding]:
    """Is what is installed what a lock of the checkout says, the nearer one of the two?"""
    folder = folder.resolve()
    roots = [root for root in (folder, *folder.parents) if (root / LOCK).is_file()]
    if not roots:
        yield Finding("note", "lock", f"no checkout around {folder}: nothing to compare")
        return
    locks = [roots[0] / name for name in (LOCK, NEWEST) if (roots[0] / name).is_file()]
    pins = [PINNED.findall(path.read_text(encoding="utf-8")) for path in locks]
    compared = [_differing(pin.partition(" --hash")[0] for pin in of_one) for of_one in pins]
    wrong, number = min(compared, key=lambda found: len(found[0]))
    if not wrong:
        yield Finding("ok", "lock", f"all {number} locked versions are installed")
        return
    shown = "; ".join(wrong[:3]) + ("; …" if len(wrong) > 3 else "")
    yield Finding(
        "warning",
        "lock",
        f"{len(wrong)} of {number} locked packages differ: {shown}",
        "make clean setup installs the locked versions; make lock writes new ones",
    )


def _differing(lines: Iterable[str]) -> tuple[list[str], int]:
    """What is not installed as required, in words, and how many lines count on this machine."""
    wrong, number = [], 0
    for line in lines:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        number += 1
        there = installed_version(wanted.name)
        # a build's own suffix, as in 2.13.0+cpu, does not count against `==2.13.0`
        if there is None or not wanted.specifier.contains(there, prereleases=True):
            wrong.append(f"{wanted.name} {there or 'missing'} (expected {wanted.specifier})")
    return wrong, number


def optional_packages(_folder: Path) -> Iterator[Finding]:
    """What can be added."""
    for name, purpose, how in OPTIONAL:
        there = installed_version(name)
        if there is None:
            yield Finding("note", name, f"not installed ({purpose})", how)
        else:
            yield Finding("ok", name, there)


def tasks(_folder: Path) -> Iterator[Finding]:
    """Can each installed task grade here?  Heard of those alone that need something."""
    for name in task_names():
        try:
            if graded := extras(get_task(name)).ready():
                yield Finding("ok", f"task {name}", graded)
        except UserError as error:
            yield Finding("note", f"task {name}", f"cannot be graded here: {error}")


def disk(folder: Path) -> Iterator[Finding]:
    """Room for checkpoints and exports."""
    free_gib = free_bytes(folder) / GIB
    words = f"{free_gib:.1f} GiB free (a 1B run with its exports wants {ENOUGH_DISK_GIB:g})"
    if free_gib >= ENOUGH_DISK_GIB:
        yield Finding("ok", "disk", words)
    else:
        level: Level = "bad" if free_gib < LEAST_DISK_GIB else "warning"
        advice = "free some space, or give RUN a folder on another disk"
        yield Finding(level, "disk", words, advice, JUDGEMENT)


def threads(_folder: Path) -> Iterator[Finding]:
    """CPU cores, and how many of them torch uses."""
    try:
        import torch
    except (ImportError, OSError):
        return  # `torch_and_gpu` says so
    cores = len(os.sched_getaffinity(0))
    used = torch.get_num_threads()
    words = f"{cores} core(s), torch uses {used} thread(s), {machine_gib():.0f} GiB of memory"
    if used > cores:
        advice = f"more threads than cores slow training down: OMP_NUM_THREADS={cores}"
        yield Finding("warning", "cpu", words, advice)
    else:
        yield Finding("ok", "cpu", words)


def hub_token(_folder: Path) -> Iterator[Finding]:
    """Is there a login to the Hub?  The token itself is never shown."""
    from huggingface_hub import get_token

    if get_token() is None:
        yield Finding(
            "note",
            "hub login",
            "no token; needed for Gemma's weights and for make push",
            ".venv/bin/hf auth login, or the environment variable HF_TOKEN",
        )
    else:
        yield Finding("ok", "hub login", "there is a token (not checked, never shown)")


# those that import torch, which takes seconds, come last
CHECKS: tuple[Callable[[Path], Iterator[Finding]], ...] = (
    python,
    own_requirements,
    lock,
    disk,
    hub_token,
    optional_packages,
    tasks,
    torch_and_gpu,
    threads,
)
