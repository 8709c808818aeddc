"""docs/colab.ipynb, every cell as it stands, in a real kernel, with the tiny model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xmlgrpo_run.folder import RunFolder
from xmlgrpo_trainer.config.run_config import load_config
from xmlgrpo_trainer.plan.gpus import find_gpu
from xmlgrpo_trainer.plan.make import make_plan

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs/colab.ipynb"
SETTINGS = "".join(json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"][1]["source"])
OVERRIDES = (
    *("grpo.max_steps=2", "grpo.save_steps=2", "data.generated_rows=32"),
    *("holdout.report_rows=8", "holdout.validation_rows=8", "model.tiny.warm_steps=150"),
)
# what Colab has; nobody has stored a secret
COLAB = """
class SecretNotFoundError(Exception): pass
class NotebookAccessError(Exception): pass
def get(name): raise SecretNotFoundError(name)
"""
SHOW = "print(); print(os.environ['OVERRIDES']); print(os.getcwd())"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository that can be cloned."""
    home = tmp_path / "project"
    (home / "docs").mkdir(parents=True)
    (home / "docs/colab.ipynb").touch()
    (home / "Makefile").touch()
    who = ("-c", "user.name=a", "-c", "user.email=a@localhost")
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", *words], cwd=home, check=True)
    return home


def first_cell(folder: Path, address: str = "", typed: str = "") -> tuple[Path, str]:
    """Run it in a folder: where the next cell runs, and what was printed."""
    folder.mkdir(exist_ok=True)
    colab = folder.parent / "site/google/colab"
    colab.mkdir(parents=True, exist_ok=True)
    (colab / "__init__.py").touch()
    (colab / "userdata.py").write_text(COLAB)
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"{SETTINGS}\n{SHOW}"],
        cwd=folder,
        env=os.environ | {"REPOSITORY": address, "PYTHONPATH": str(colab.parents[1])},
        input=typed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1]), done.stdout


@pytest.mark.parametrize("typed", [False, True])
def test_the_project_is_cloned_once(project: Path, typed: bool) -> None:
    content = project.parent / "content"
    address = f"file://{project}"
    given = ("", f"{address}\n") if typed else (address, "")
    there, printed = first_cell(content, *given)
    assert there == content / "xmlgrpo"
    assert (there / "Makefile").is_file()
    assert ("Address of the project" in printed) == typed
    assert "No secret HF_TOKEN" in printed
    assert first_cell(content)[0] == there  # after the runtime was restarted
    assert first_cell(there)[0] == there  # the cell run again


def test_a_checkout_is_used_as_it_is(project: Path) -> None:
    assert first_cell(project)[0] == project
    assert first_cell(project / "docs")[0] == project


def test_its_run_fits_a_free_gpu(project: Path) -> None:
    *_, overrides, _ = first_cell(project)[1].splitlines()
    config = load_config(ROOT / "configs/gemma3-270m.yaml", overrides.split())
    assert make_plan(config, find_gpu("T4")).fits


@pytest.mark.notebook
@pytest.mark.allow_hosts(["127.0.0.1"])  # the kernel
@pytest.mark.timeout(2400)  # the whole chain, on a machine that may be busy
def test_the_notebook_runs_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    folder = RunFolder(tmp_path / "outputs" / "notebook")
    for name, value in {
        "CONFIG": "configs/tiny.yaml",
        "RUN": str(folder.root),
        "OVERRIDES": " ".join(OVERRIDES),
        "LIMIT": "8",
        "QUANTS": "q8_0",
    }.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert len(notebook.cells) == 10
    kernel = NotebookClient(
        notebook, timeout=1800, resources={"metadata": {"path": str(ROOT)}}, kernel_name="python3"
    )
    kernel.execute()  # raises at the first cell that fails
    assert folder.manifest.is_file()
    assert list(folder.eval.glob("*.json"))
    assert list(folder.gguf.glob("*q8_0.gguf"))
    assert folder.report.is_file()
