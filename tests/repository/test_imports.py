"""Imports that import-linter cannot judge: the standard library, eval_tasks/, and their cost."""

import ast
import importlib
import json
import signal
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "transformers", "datasets", "trl", "peft", "lm_eval", "matplotlib", "wandb"}
SCRIPTS = {
    name: entry
    for path in sorted((ROOT / "packages").glob("*/pyproject.toml"))
    for name, entry in tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    .get("scripts", {})
    .items()
}


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules_after(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after running `code`."""
    tell = "import json, sys\nprint(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    command = [sys.executable, "-c", f"{code}\n{tell}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return set(json.loads(ran.stdout.splitlines()[-1]))


def test_rewards_imports_the_standard_library_only() -> None:
    for path in (ROOT / "packages/rewards/src").rglob("*.py"):
        tops = {name.partition(".")[0] for name in imported_modules(path)}
        assert tops <= sys.stdlib_module_names | {"xmlgrpo_rewards"}, path


def test_importing_rewards_loads_nothing_else() -> None:
    before = modules_after("")  # an environment's .pth files load some of their own
    assert modules_after("import xmlgrpo_rewards") - before <= sys.stdlib_module_names | {
        "xmlgrpo_rewards"
    }


def test_looking_at_a_gguf_and_counting_for_the_gpu_engine_load_no_engine() -> None:
    looking = "import xmlgrpo_gguf.header, xmlgrpo_gguf.probe, xmlgrpo_rollout.gpu"
    assert modules_after(looking) & (HEAVY | {"llama_cpp", "numpy"}) == set()


def test_the_progress_bar_and_what_publishes_load_no_torch() -> None:
    publishing = "import xmlgrpo_exporter.commands.push, xmlgrpo_exporter.publish.upload"
    assert modules_after(f"import xmlgrpo_run.screen.progress\n{publishing}") & HEAVY == set()


def test_eval_tasks_do_not_depend_on_what_training_pays_for() -> None:
    glue = sorted((ROOT / "eval_tasks").rglob("*.py"))
    assert glue
    for path in glue:
        shaping = {"xmlgrpo_rewards.scores", "xmlgrpo_rewards.total"}
        names = imported_modules(path)
        assert not {n for n in names if n in shaping or n.startswith("xmlgrpo_trainer")}, path


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_of_a_command_loads_nothing_heavy(script: str) -> None:
    module, _, function = SCRIPTS[script].partition(":")
    call = f"with contextlib.suppress(SystemExit): {function}()"
    arguments = f"sys.argv = [{script!r}, '--help']"
    loaded = modules_after(
        f"import contextlib, sys\nfrom {module} import {function}\n{arguments}\n{call}"
    )
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_command_is_a_parser_a_main_and_a_run(script: str) -> None:
    module = importlib.import_module(SCRIPTS[script].partition(":")[0])
    order = [name for name in vars(module) if name in ("parser", "main", "run")]
    assert order == ["parser", "main", "run"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_command_tells_its_version(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, _, function = SCRIPTS[script].partition(":")
    monkeypatch.setattr(sys, "argv", [script, "--version"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as left:
        getattr(importlib.import_module(module), function)()
    assert left.value.code == 0
    assert capsys.readouterr().out == f"{script} {metadata.version('xmlgrpo-rewards')}\n"
