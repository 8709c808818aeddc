"""docs/add-a-task.md, followed word for word in a copy of the project."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xmlgrpo_run.folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "add-a-task.md").read_text(encoding="utf-8")
FILES = re.compile(r"^`([\w/.-]+)`:\n\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [line for kind, text in BLOCKS if not kind for line in text.splitlines()]
# The page's run with the built-in model, seconds long: what is tested is the path.
SHORT = (
    *("model.name=tiny", "model.tiny.hidden_size=64", "model.tiny.head_dim=16"),
    *("model.tiny.mlp_size=192", "model.tiny.warm_threads=1", "model.tiny.warm_steps=20"),
    *("grpo.max_steps=2", "grpo.max_completion_length=24", "lora.r=4"),
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


LISTS = next(text for kind, text in BLOCKS if kind == "py" and text.startswith("ROWS"))
TEST = Path("packages/tasks/tests/weekday/test_weekday.py")
CODE = "packages/tasks/src/xmlgrpo_tasks/weekday/__init__.py"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which the page's first command has run; installed again."""
    copy = tmp_path_factory.mktemp("project")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("docs/measured/"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    (copy / ".venv").mkdir()
    (copy / ".venv/bin").symlink_to(Path(sys.executable).parent)
    (copy / ".venv/.stamp").touch()
    passes(copy, "make new-task NAME=weekday")
    _install_again(copy)
    return copy


def _install_again(copy: Path) -> None:
    """What `make setup` does after such a change, beside the environment instead of in it."""
    words = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--no-compile"]
    words += ["--target", str(copy / "site"), str(copy / "packages/tasks")]
    subprocess.run([sys.executable, "-m", "pip", "install", *words], check=True)
    shutil.rmtree(copy / "site" / "xmlgrpo_tasks")  # the sources of the copy are read instead
    (copy / ".venv/.stamp").touch()


@pytest.fixture(scope="module")
def filled(project: Path) -> Path:
    """The same after the page's gaps are filled."""
    first = run(project, f".venv/bin/pytest -p no:cacheprovider {TEST.parent}")
    assert first.returncode == 1
    assert "5 failed" in first.stdout, first.stdout + first.stderr
    passes(project, f"cp docs/examples/weekday.py {CODE}")
    for name, content in FILES.findall(PAGE):
        assert (project / name).is_file(), "new-task has not written it"
        (project / name).write_text(content, encoding="utf-8")
    test = (project / TEST).read_text(encoding="utf-8")
    test = re.sub(r"^(ROWS|NO_ROWS|RIGHT|WRONG): .*\n", "", test, flags=re.MULTILINE)
    test = test.replace("import TASK\n\n", f"import TASK\n\n{LISTS}")
    (project / TEST).write_text(test, encoding="utf-8")
    return project


def run(project: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command line of the page in the copy."""
    sources = [str(path) for path in sorted(project.glob("packages/*/src"))]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([*sources, str(project / "site")]),
        "HF_HUB_OFFLINE": "1",
    }
    environment = {k: v for k, v in environment.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["bash", "-c", command + "".join(f" {argument}" for argument in arguments)],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def passes(project: Path, command: str, *arguments: str) -> str:
    assert command in COMMANDS, f"the page does not say {command}"
    done = run(project, command, *arguments)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_the_test_passes_and_what_make_lint_does(filled: Path) -> None:
    """Its three sessions; types only for what is new, since the rest is checked elsewhere."""
    passes(filled, ".venv/bin/pytest packages/tasks/tests/weekday", "-p no:cacheprovider")
    for words in (
        "ruff format --check --no-cache .",
        "ruff check --no-cache .",
        "lint-imports --no-cache",
        f"mypy --cache-dir=/dev/null {CODE} {TEST}",
    ):
        done = run(filled, f".venv/bin/{words}")
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"


def test_the_rows_are_made_and_checked(filled: Path) -> None:
    passes(filled, 'make rows TASK=weekday DATA=data/weekday ARGS="--train 64 --test 4"')
    said = passes(filled, "make validate TASK=weekday DATA=data/weekday")
    assert "train.jsonl       64        0" in said
    assert "test.jsonl         4        0" in said
    assert "known hacks       24        0" in said


def test_it_is_trained_and_asked_its_own_task(filled: Path) -> None:
    passes(filled, "make train CONFIG=configs/weekday.yaml", f'ARGS="{" ".join(SHORT)}"')
    assert "weekday_xml: 4 items" in passes(filled, "make eval RUN=weekday")
    run_folder = RunFolder(filled / "outputs/weekday")
    result = json.loads((run_folder.eval / "tuned.json").read_text(encoding="utf-8"))
    [items] = [task["items"] for task in result["tasks"].values()]
    rows = (filled / "data/weekday/test.jsonl").read_text(encoding="utf-8").splitlines()
    assert [item["gold"] for item in items] == [json.loads(row)["weekday"] for row in rows]
    assert result["prompts"]["compared"] == result["prompts"]["identical"] == 4
    passes(filled, "make report RUN=weekday")
    report = run_folder.report.read_text(encoding="utf-8")
    assert "strict accuracy (form and day of the week)" in report
    assert "a sum is written" not in report


def test_the_stock_tool_knows_its_definitions(filled: Path) -> None:
    names = "weekday_xml,weekday_xml_k"
    done = run(filled, f".venv/bin/lm_eval validate --include_path eval_tasks --tasks {names}")
    assert "All tasks found and valid" in done.stdout, done.stderr
