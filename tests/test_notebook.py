"""docs/colab.ipynb, every cell as it stands, in a real kernel, with the tiny model."""

from pathlib import Path

import pytest

from xmlgrpo_run.folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
OVERRIDES = (
    *("grpo.max_steps=2", "grpo.save_steps=2", "data.generated_rows=32"),
    *("holdout.report_rows=8", "holdout.validation_rows=8", "model.tiny.warm_steps=150"),
)


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
    notebook = nbformat.read(ROOT / "docs/colab.ipynb", as_version=4)
    assert len(notebook.cells) == 10
    kernel = NotebookClient(
        notebook, timeout=1800, resources={"metadata": {"path": str(ROOT)}}, kernel_name="python3"
    )
    kernel.execute()  # raises at the first cell that fails
    assert folder.manifest.is_file()
    assert list(folder.eval.glob("*.json"))
    assert list(folder.gguf.glob("*q8_0.gguf"))
    assert folder.report.is_file()
