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

ROOT = Path(__file__).resolve().parents[1]
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


def written(name: str) -> str:
    """A file of the page."""
    files: dict[str, str] = dict(FILES.findall(PAGE))
    return files[name]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the page's files, its line, and rows; installed again."""
    copy = tmp_path_factory.mktemp("project")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("docs/measured/"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    for name, content in FILES.findall(PAGE):
        path = copy / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    described = copy / "packages/rewards/pyproject.toml"
    table = '[project.entry-points."xmlgrpo.tasks"]\n'
    text = described.read_text(encoding="utf-8")
    assert table in text
    [line] = [text for kind, text in BLOCKS if kind == "toml"]
    described.write_text(text.replace(table, table + line), encoding="utf-8")
    for split, count in (("train", 64), ("test", 4)):
        rows = [{"country": f"{split} {n}", "capital": f"Town {n}"} for n in range(count)]
        path = copy / "data/capitals" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    _install_again(copy)
    return copy


def _install_again(copy: Path) -> None:
    """What `make setup` does after such a change, beside the environment instead of in it."""
    words = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--no-compile"]
    words += ["--target", str(copy / "site"), str(copy / "packages/rewards")]
    subprocess.run([sys.executable, "-m", "pip", "install", *words], check=True)
    shutil.rmtree(copy / "site" / "xmlgrpo_rewards")  # the sources of the copy are read instead
    (copy / ".venv").mkdir()
    (copy / ".venv/bin").symlink_to(Path(sys.executable).parent)
    (copy / ".venv/.stamp").touch()


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


def test_what_make_lint_does_passes(project: Path) -> None:
    """Its three sessions; types only for what is new, since the rest is checked elsewhere."""
    new = [name for name, _ in FILES.findall(PAGE) if name.endswith(".py")]
    assert len(new) == 1
    for words in (
        "ruff format --check --no-cache .",
        "ruff check --no-cache .",
        "lint-imports --no-cache",
        f"mypy --cache-dir=/dev/null {' '.join(new)}",
    ):
        done = run(project, f".venv/bin/{words}")
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"


def test_the_rows_are_checked(project: Path) -> None:
    said = passes(project, "make validate TASK=capitals DATA=data/capitals")
    assert "train.jsonl       64        0" in said
    assert "test.jsonl         4        0" in said


def test_it_is_trained_and_asked_its_own_task(project: Path) -> None:
    passes(project, "make train CONFIG=configs/capitals.yaml", f'ARGS="{" ".join(SHORT)}"')
    assert "capitals_xml: 4 items" in passes(project, "make eval RUN=capitals")
    run_folder = RunFolder(project / "outputs/capitals")
    result = json.loads((run_folder.eval / "tuned.json").read_text(encoding="utf-8"))
    [items] = [task["items"] for task in result["tasks"].values()]
    assert [item["gold"] for item in items] == [f"Town {n}" for n in range(4)]
    assert result["prompts"]["compared"] == result["prompts"]["identical"] == 4
    passes(project, "make report RUN=capitals")
    report = run_folder.report.read_text(encoding="utf-8")
    assert "strict accuracy (form and capital)" in report
    assert "a sum is written" not in report


def test_the_stock_tool_knows_its_definition(project: Path) -> None:
    assert written("eval_tasks/capitals_xml/capitals_xml.yaml")
    done = run(project, ".venv/bin/lm_eval validate --include_path eval_tasks --tasks capitals_xml")
    assert "All tasks found and valid" in done.stdout, done.stderr
