"""What this machine has, what is missing, and what it takes to add it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

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
LOCK = Path("ci/requirements/base.txt")
# a line such as `numpy==2.4.6 ; python_version < "3.12"`, without the hashes that may follow
PINNED = re.compile(r"^[A-Za-z0-9_.-]+==[^\\#\n]+", re.MULTILINE)


def check_machine(folder: Path) -> Iterator[Finding]:
    """Every check of the machine, each finding as soon as it is made.

    Args:
        folder: where runs are written; its disk is looked at, and the checkout it belongs to.
    """
    for check in CHECKS:
        yield from check(folder)


def python(_folder: Path) -> list[Finding]:
    """The interpreter."""
    running = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return [Finding("ok", "python", running)]
    return [
        Finding(
            "bad", "python", f"{running} (3.11 to 3.13)", "make setup PYTHON=/path/to/python3.12"
        )
    ]


def torch_and_gpu(_folder: Path) -> list[Finding]:
    """Does this torch see the GPU that the machine has, and does it compute in bfloat16?"""
    try:
        import torch
    except (ImportError, OSError) as error:
        return [
            Finding("bad", "gpu", f"torch cannot be imported: {error}", "make clean, make setup")
        ]
    build = f"torch {torch.__version__}"
    listed = _listed_gpus()
    gpu = found_gpu()
    if gpu is not None:
        found = [Finding("ok", "gpu", f"{gpu.name}, {gpu.memory_gib:.1f} GiB ({build})")]
        if gpu.bfloat16:
            return [*found, Finding("ok", "bfloat16", "computed by this GPU")]
        return [
            *found,
            Finding(
                "warning",
                "bfloat16",
                "not computed by this GPU, and Gemma 3 overflows in float16",
                "model.dtype auto takes float32: twice the memory, and slower",
            ),
        ]
    if not listed:
        return [Finding("note", "gpu", f"none ({build}); configs/tiny.yaml needs none, others do")]
    if torch.version.cuda is None:
        return [
            Finding(
                "bad",
                "gpu",
                f"nvidia-smi lists {listed[0]}, but {build} is a CPU build",
                "install a CUDA build: make setup TORCH_INDEX=<the index of your CUDA version, "
                "see pytorch.org>",
            )
        ]
    return [
        Finding(
            "bad",
            "gpu",
            f"nvidia-smi lists {listed[0]}, but {build} (CUDA {torch.version.cuda}) cannot use it",
            "is the driver too old for that CUDA version, or CUDA_VISIBLE_DEVICES empty "
            f"(it is {os.environ.get('CUDA_VISIBLE_DEVICES')!r})?",
        )
    ]


def _listed_gpus() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
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


def own_requirements(_folder: Path) -> list[Finding]:
    """Are the libraries those that this package asks for?"""
    from packaging.requirements import Requirement

    wrong = []
    for line in requires("xmlgrpo-trainer") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        there = _version(requirement.name)
        if there is None or not requirement.specifier.contains(there, prereleases=True):
            wrong.append(f"{requirement.name} {there or 'missing'} ({requirement.specifier})")
    if wrong:
        return [Finding("bad", "libraries", "; ".join(wrong), "make setup")]
    named = ", ".join(f"{name} {_version(name)}" for name in ("trl", "transformers", "peft"))
    return [Finding("ok", "libraries", named)]


def lock(folder: Path) -> list[Finding]:
    """Is what is installed what the checkout's lock says?"""
    from packaging.requirements import Requirement

    roots = [
        root for root in (folder.resolve(), *folder.resolve().parents) if (root / LOCK).is_file()
    ]
    if not roots:
        return [Finding("note", "lock", f"no checkout around {folder}: nothing to compare")]
    text = (roots[0] / LOCK).read_text(encoding="utf-8")
    pins = [Requirement(line.partition(" --hash")[0]) for line in PINNED.findall(text)]
    pins = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    differing = []
    for pin in pins:
        there = _version(pin.name)
        # a build's own suffix, as in 2.13.0+cpu, does not count against `==2.13.0`
        if there is None or not pin.specifier.contains(there, prereleases=True):
            differing.append(f"{pin.name} {there or 'missing'} (locked {pin.specifier})")
    if not differing:
        return [Finding("ok", "lock", f"all {len(pins)} locked versions are installed")]
    shown = "; ".join(differing[:3]) + ("; …" if len(differing) > 3 else "")
    return [
        Finding(
            "warning",
            "lock",
            f"{len(differing)} of {len(pins)} locked packages differ: {shown}",
            "make clean setup installs the locked versions; make lock writes new ones",
        )
    ]


def optional_packages(_folder: Path) -> list[Finding]:
    """What can be added."""
    found = []
    for name, purpose, how in OPTIONAL:
        there = _version(name)
        if there is not None:
            found.append(Finding("ok", name, there))
        else:
            found.append(Finding("note", name, f"not installed ({purpose})", how))
    return found


def disk(folder: Path) -> list[Finding]:
    """Room for checkpoints and exports."""
    place = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.exists())
    free_gib = shutil.disk_usage(place).free / 2**30
    level: Level = "ok"
    if free_gib < ENOUGH_DISK_GIB:
        level = "bad" if free_gib < LEAST_DISK_GIB else "warning"
    advice = "" if level == "ok" else "free some space, or give RUN a folder on another disk"
    said = f"{free_gib:.1f} GiB free (a 1B run with its exports wants {ENOUGH_DISK_GIB:g})"
    return [Finding(level, "disk", said, advice, "" if level == "ok" else JUDGEMENT)]


def threads(_folder: Path) -> list[Finding]:
    """CPU cores, and how many of them torch uses."""
    try:
        import torch
    except (ImportError, OSError):
        return []  # `torch_and_gpu` says so
    cores = len(os.sched_getaffinity(0))
    used = torch.get_num_threads()
    said = f"{cores} core(s), torch uses {used} thread(s), {machine_gib():.0f} GiB of memory"
    if used > cores:
        advice = f"more threads than cores slow training down: OMP_NUM_THREADS={cores}"
        return [Finding("warning", "cpu", said, advice)]
    return [Finding("ok", "cpu", said)]


def hub_token(_folder: Path) -> list[Finding]:
    """Is there a login to the Hub?  The token itself is never shown."""
    from huggingface_hub import get_token

    if get_token() is not None:
        return [Finding("ok", "hub login", "there is a token (not checked, never shown)")]
    return [
        Finding(
            "note",
            "hub login",
            "no token; needed for Gemma's weights and for make push",
            "hf auth login, or the environment variable HF_TOKEN",
        )
    ]


# those that import torch, which takes seconds, come last
CHECKS: tuple[Callable[[Path], list[Finding]], ...] = (
    python,
    own_requirements,
    lock,
    disk,
    hub_token,
    optional_packages,
    torch_and_gpu,
    threads,
)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
