from pathlib import Path

import pytest

from xmlgrpo_rewards import UserError
from xmlgrpo_rewards.run_folder import MANIFEST_FORMAT, RunFolder, write_json, write_text

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
    if content is not None:
        run.manifest.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        run.read_manifest()


def test_a_missing_run_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run folder at .*nothing: train first"):
        RunFolder(tmp_path / "nothing").read_manifest()


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
