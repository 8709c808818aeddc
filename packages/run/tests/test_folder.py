from pathlib import Path

import pytest

from xmlgrpo_rewards import UserError
from xmlgrpo_run.folder import (
    MANIFEST_FORMAT,
    RunFolder,
    find_run,
    run_root,
    write_json,
    write_text,
)

PATHS = [
    "adapter",
    "checkpoints",
    "config",
    "curves",
    "eval",
    "gguf",
    "holdout",
    "hub",
    "manifest",
    "merged",
    "metrics",
    "report",
]


def test_every_artefact_has_its_own_place_in_the_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    places = [getattr(run, name) for name in PATHS]
    assert len(set(places)) == len(PATHS)
    assert {place.parent for place in places} == {tmp_path}


def test_a_manifest_is_read_back(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    manifest = {"format": MANIFEST_FORMAT, "run": "a", "steps": 60}
    write_json(run.manifest, manifest)
    assert run.read_manifest() == manifest


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "has no manifest.json, so its training has not finished", id="missing"),
        pytest.param("{", "is not JSON", id="cut"),
        pytest.param("[]", "expected format 1, found None", id="list"),
        pytest.param("{}", "expected format 1, found None", id="no-format"),
        pytest.param('{"format": 2}', "expected format 1, found 2", id="other-format"),
    ],
)
def test_a_manifest_that_does_not_read_is_a_user_error(
    tmp_path: Path, content: str | None, said: str
) -> None:
    run = RunFolder(tmp_path)
    write_text(run.config, "")
    if content is not None:
        run.manifest.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        run.read_manifest()


@pytest.fixture
def four_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two finished runs, one that is not, and what a rejected command left."""
    for name, file in [
        ("tiny", "manifest.json"),
        ("gsm8k-1b", "manifest.json"),
        ("gsm8k-4b", "config.yaml"),
        ("b1", ".lock"),
    ]:
        folder = tmp_path / "outputs" / name
        folder.mkdir(parents=True)
        (folder / file).write_text("{}", encoding="utf-8")
    (tmp_path / "ggufs").mkdir()
    (tmp_path / "ggufs" / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    return tmp_path


THERE_ARE = "Runs in outputs: gsm8k-1b, gsm8k-4b (not finished), tiny"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("none", f"no run at outputs/none. {THERE_ARE}", id="unlike-any"),
        pytest.param(
            "gsm8k-1", f"no run at outputs/gsm8k-1; did you mean gsm8k-1b? {THERE_ARE}", id="near"
        ),
        pytest.param(
            "outputs/tyni", f"no run at outputs/tyni; did you mean tiny? {THERE_ARE}", id="folder"
        ),
        pytest.param(
            "b1",
            f"outputs/b1 is an empty folder, not a run. {THERE_ARE}",
            id="left-by-a-rejected-command",
        ),
        pytest.param("ggufs", f"no run at outputs/ggufs. {THERE_ARE}", id="a-name-is-no-folder"),
    ],
)
def test_a_run_that_is_not_there_names_those_that_are(
    four_runs: Path, name: str, said: str
) -> None:
    with pytest.raises(UserError) as told:
        find_run(name)
    assert str(told.value) == said
    with pytest.raises(UserError) as told:
        RunFolder(run_root(name)).read_manifest()
    assert str(told.value) == said


@pytest.mark.parametrize(
    ("name", "root", "called"),
    [
        pytest.param("tiny", "outputs/tiny", "tiny", id="name"),
        pytest.param("outputs/tiny/", "outputs/tiny", "tiny", id="folder"),
        pytest.param("gsm8k-4b", "outputs/gsm8k-4b", "gsm8k-4b", id="not-finished"),
        pytest.param("./ggufs", "ggufs", "./ggufs", id="a-folder-of-files"),
    ],
)
def test_a_run_is_found_and_called_as_commands_take_it(
    four_runs: Path, name: str, root: str, called: str
) -> None:
    run = find_run(name)
    assert (run.root, run.called) == (Path(root), called)
    assert find_run(run.called) == run


def test_many_runs_are_not_all_named(four_runs: Path) -> None:
    for number in range(30):
        write_text(RunFolder(four_runs / "outputs" / f"seed-{number}").config, "")
    with pytest.raises(UserError, match=r"seed-\d+ \(not finished\) and 23 more$"):
        find_run("none")


def test_where_nothing_was_trained_one_trains_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^no run at outputs/tiny; train one first: make train$"):
        find_run("tiny")


def test_writing_makes_the_folders_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.json"
    write_json(path, {"é": [1, None]})
    write_json(path, {"é": 2})
    assert path.read_text(encoding="utf-8") == '{\n  "é": 2\n}\n'
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_a_value_that_is_no_json_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"share": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"share": float("nan")})
    assert path.read_text(encoding="utf-8") == '{\n  "share": 0.5\n}\n'


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]
