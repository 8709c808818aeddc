"""The commit is that of our own repository, and says when the code is not what was committed."""

import subprocess
from pathlib import Path

import pytest

from xmlgrpo_run.checkout import HERE, Code, code_of, is_installed


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def repository(root: Path, package: Path) -> tuple[Path, str]:
    """A repository with one commit and this package in it; the package's folder and the commit."""
    folder = root / package
    folder.mkdir(parents=True)
    (folder / "checkout.py").write_text("")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "one")
    return folder, git(root, "rev-parse", "HEAD")


def test_our_own_repository_is_named_by_its_commit(tmp_path: Path) -> None:
    package, commit = repository(tmp_path, HERE)
    assert code_of(package) == Code(commit)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "x").write_text("not code")
    assert code_of(package) == Code(commit)


@pytest.mark.parametrize("file", ["checkout.py", "new.py"])
def test_code_that_is_not_what_was_committed_is_dirty(tmp_path: Path, file: str) -> None:
    package, commit = repository(tmp_path, HERE)
    (package / file).write_text("changed")
    assert code_of(package) == Code(commit, dirty=True)


@pytest.mark.parametrize(
    "package",
    [
        pytest.param(".venv/lib/python3.11/site-packages/xmlgrpo_run", id="environment"),
        pytest.param(f"vendor/xmlgrpo/{HERE}", id="a-copy-of-ours-in-it"),
    ],
)
def test_somebody_elses_repository_has_no_say(tmp_path: Path, package: str) -> None:
    folder, _ = repository(tmp_path, Path(package))
    assert code_of(folder) == Code(None)


def test_outside_of_a_repository_and_untracked_in_one_there_is_no_commit(tmp_path: Path) -> None:
    (tmp_path / HERE).mkdir(parents=True)
    assert code_of(tmp_path / HERE) == Code(None)
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "one")
    assert code_of(tmp_path / HERE) == Code(None)


def test_a_hooks_variables_do_not_lead_to_its_repository(tmp_path: Path, monkeypatch) -> None:
    package, commit = repository(tmp_path / "ours", HERE)
    repository(tmp_path / "theirs", Path("src"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "theirs" / ".git"))
    assert code_of(package) == Code(commit)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        pytest.param((), False, id="nothing"),
        pytest.param(("vllm-like/README.md",), False, id="another-name"),
        pytest.param(("vllm_like/notes.txt",), False, id="a-folder"),
        pytest.param(("vllm_like/__init__.py",), True, id="a-package"),
        pytest.param(("vllm_like.py",), True, id="a-module"),
    ],
)
def test_a_mere_folder_is_no_package(tmp_path, monkeypatch, files, found):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert is_installed("vllm_like") is found
