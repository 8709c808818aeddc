"""What the packages declare, against what they import and what the locks hold."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ci.checks.environments import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.11", "3.12", "3.13")
LOCKS = ROOT / "ci" / "requirements"
# Optional packages need not be installed where the tests run, so their names are said here.
OPTIONAL = {"llama_cpp": ["llama-cpp-python"]}
OF_THE_CONVERTER = "conversion"  # the package beside llama.cpp's script, which we fetch with it
SHARED = ("xmlgrpo-rewards", "xmlgrpo-run", "xmlgrpo-gguf", "xmlgrpo-rollout")
SEEN = ("xmlgrpo-trainer", "xmlgrpo-evaluator")  # whose work the viewer shows
UNLOCKED = ("tensorboard", "trackio")  # trackers that one adds; trackio wants an older pillow
FROM_TORCH = ("triton",)  # each CUDA build of torch brings its own
each_package = pytest.mark.parametrize("package", PACKAGES)


def project(package: str) -> dict[str, Any]:
    path = ROOT / "packages" / package / "pyproject.toml"
    fields: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    return fields


def requirements(package: str) -> Iterator[Requirement]:
    """All that a package declares, its extras included."""
    of = project(package)
    for lines in (of["dependencies"], *of.get("optional-dependencies", {}).values()):
        yield from map(Requirement, lines)


def locked(*names: str, python: str) -> dict[str, str]:
    """Name to version, from the named locks, for one Python."""
    versions: dict[str, str] = {}
    environment = {name: str(value) for name, value in default_environment().items()}
    environment["python_version"] = python
    for name in names:
        for line in (LOCKS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
            if line.startswith("#"):
                continue
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(environment):
                (pin,) = requirement.specifier
                assert pin.operator == "=="
                versions[canonicalize_name(requirement.name)] = pin.version
    return versions


def third_party_imports(source: Path) -> Iterator[tuple[Path, str]]:
    """Each module of a source tree with the top-level names it imports, wherever they stand."""
    for path in sorted(source.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            else:
                continue
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names:
                    yield path.relative_to(source), top


@each_package
def test_metadata_is_complete_and_agrees(package: str) -> None:
    here = project(package)
    assert here["version"] == project("rewards")["version"]
    assert here["requires-python"] == ">=3.11,<3.14"
    assert here["license"] == "MIT"
    assert here["description"]
    folder = ROOT / "packages" / package
    assert (folder / "src" / f"xmlgrpo_{package}" / "py.typed").is_file()
    assert (folder / here["readme"]).read_text(encoding="utf-8").startswith("# ")


@each_package
def test_siblings_are_pinned_to_the_same_version(package: str) -> None:
    for requirement in requirements(package):
        if requirement.name.startswith("xmlgrpo"):
            allowed = (*SHARED, *SEEN) if package == "viewer" else SHARED
            assert requirement.name in allowed, "trainer, evaluator and exporter stay apart"
            assert str(requirement.specifier) == f"=={project(package)['version']}"


def test_rewards_needs_nothing() -> None:
    assert list(requirements("rewards")) == []


@each_package
def test_every_import_is_declared(package: str) -> None:
    provided_by = {**OPTIONAL, **metadata.packages_distributions()}
    declared = {canonicalize_name(r.name) for r in requirements(package)}
    ours = f"xmlgrpo_{package}"
    source = ROOT / "packages" / package / "src" / ours
    undeclared = [
        f"{path} imports {top}"
        for path, top in third_party_imports(source)
        if top not in (ours, OF_THE_CONVERTER)
        and not declared.intersection(map(canonicalize_name, provided_by.get(top, [top])))
    ]
    assert undeclared == []


@pytest.mark.parametrize("python", PYTHONS)
@each_package
def test_locks_meet_what_the_package_declares(package: str, python: str) -> None:
    versions = locked("base", "dev", "gguf", "gpu", "unsloth", python=python)
    for requirement in requirements(package):
        name = canonicalize_name(requirement.name)
        if not name.startswith("xmlgrpo") and name not in (*FROM_TORCH, *UNLOCKED):
            assert versions[name] in requirement.specifier, requirement


@pytest.mark.parametrize("python", PYTHONS)
def test_what_was_measured_stays_pinned(python: str) -> None:
    versions = locked("base", python=python)
    pinned = {
        "torch": "2.13.0",
        "transformers": "5.17.0",
        "trl": "1.14.2",
        "datasets": "4.8.5",
        "peft": "0.21.2",
        "huggingface-hub": "1.33.0",
        "lm-eval": "0.4.13",
        "wandb": "0.31.0",
    }
    assert {name: versions[name] for name in pinned} == pinned


@pytest.mark.parametrize("path", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.name)
def test_lock_names_no_build_no_host_and_no_cuda_library(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"#.*|[a-z0-9-]+==[0-9a-z.]+( ; python_version == .*)?", line), line
        assert not re.match(r"nvidia-|triton=", line), line


def test_installed_tools_are_those_of_one_lock() -> None:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    here: dict[str, str] = {
        canonicalize_name(one.name): one.version for one in metadata.distributions()
    }
    different = {
        lock: {
            name: (version, installed)
            for name, version in locked(lock, "dev", python=python).items()
            if (installed := here.get(name, "none").partition("+")[0]) != version
        }
        for lock in ("base", "newest")
    }
    assert {} in different.values(), different
