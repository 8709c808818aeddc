import re
from pathlib import Path

import pytest

from xmlgrpo_rewards import UserError
from xmlgrpo_run.files import write_text
from xmlgrpo_run.folder import RunFolder, find_run, model_source, run_folder
from xmlgrpo_run.manifest import read_manifest


def test_every_name_in_a_run_is_another_place_in_its_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    names = [name for name in vars(RunFolder) if not name.startswith("_")]
    places = [place for name in names if isinstance(place := getattr(run, name), Path)]
    places += [run.validation(0), run.validation(10), run.completions_of(10)]
    assert len(set(places)) == len(places) > 20
    assert all(place == tmp_path or tmp_path in place.parents for place in places)


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
            "gsm8k-1", f"no run at outputs/gsm8k-1; did you mean 'gsm8k-1b'? {THERE_ARE}", id="near"
        ),
        pytest.param(
            "outputs/tyni", f"no run at outputs/tyni; did you mean 'tiny'? {THERE_ARE}", id="folder"
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
        read_manifest(run_folder(name))
    assert str(told.value) == said


@pytest.mark.parametrize(
    ("name", "root", "called"),
    [
        pytest.param("tiny", "outputs/tiny", "tiny", id="name"),
        pytest.param("outputs/tiny/", "outputs/tiny", "tiny", id="folder"),
        pytest.param("gsm8k-4b", "outputs/gsm8k-4b", "gsm8k-4b", id="not-finished"),
        pytest.param("./ggufs", "ggufs", "./ggufs", id="a-folder-of-files"),
        pytest.param(".", ".", "./.", id="here"),
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


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("tiny", "outputs/tiny; train it first: make train RUN=tiny", id="name"),
        pytest.param(
            "outputs/dry/run",
            "outputs/dry/run; train it first: make train RUN=outputs/dry/run",
            id="folder",
        ),
        pytest.param("./run", "run; train it first: make train RUN=./run", id="here"),
        pytest.param("./my data/run", "my data/run; train one first: make train", id="two-words"),
    ],
)
def test_where_nothing_was_trained_one_trains_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^no run at {re.escape(words)}$"):
        find_run(name)


@pytest.mark.parametrize(
    ("name", "root"),
    [
        pytest.param("tiny", "outputs/tiny", id="name"),
        pytest.param("outputs/tiny", "outputs/tiny", id="folder"),
        pytest.param("/data/run", "/data/run", id="absolute"),
        pytest.param("./run", "run", id="dot-slash"),
        pytest.param("gemma-3.1b_lr=1e-5+", "outputs/gemma-3.1b_lr=1e-5+", id="signs"),
        pytest.param("数学", "outputs/数学", id="chinese"),
        pytest.param("/my data/run", "/my data/run", id="a-space-further-up"),
        pytest.param("/data/../run", "/data/../run", id="out-by-the-full-path"),
    ],
)
def test_a_run_is_named_or_a_folder(name: str, root: str) -> None:
    assert run_folder(name).root == Path(root)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("  ", "expected a name or a folder", id="empty"),
        pytest.param("sp ace", "letters, digits", id="space"),
        pytest.param("outputs/sp ace", "letters, digits", id="space-in-a-path"),
        pytest.param("a\nb", "letters, digits", id="line-break"),
        pytest.param("a" * 300, "File name too long", id="too-long"),
        pytest.param("~no-such-user/run", "home directory", id="nobodys-home"),
        pytest.param("a;rm", "letters, digits", id="shell"),
        pytest.param("-x", "letters, digits", id="an-option"),
        pytest.param(".hidden", "letters, digits", id="hidden"),
        pytest.param(".", "letters, digits", id="dot"),
        pytest.param("/", "letters, digits", id="root"),
        pytest.param("..", "leads out", id="two-dots"),
        pytest.param("../../escape", "full path '/.*/escape'", id="outside"),
        pytest.param("outputs/../../escape", "leads out", id="outside-in-the-middle"),
    ],
)
def test_what_could_not_be_a_new_runs_name_is_refused(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "b" / "outputs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    with pytest.raises(UserError, match=words):
        run_folder(name)


def test_a_run_that_is_there_is_found_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "outputs" / "sp ace").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert run_folder("sp ace").root == Path("outputs/sp ace")
    assert run_folder("../here/outputs/sp ace").root == Path("../here/outputs/sp ace")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        pytest.param("~/models/x", "models/x", id="home"),
        pytest.param("../models/x", "models/x", id="up"),
        pytest.param("x", "work/x", id="a-folder-here"),
        pytest.param("org/name", "work/org/name", id="a-folder-that-looks-like-an-id"),
        pytest.param("org/other", None, id="an-id"),
        pytest.param("gpt2", None, id="a-short-id"),
    ],
)
def test_a_model_is_a_full_path_or_an_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str | None
) -> None:
    for folder in ("models/x", "work/x", "work/org/name"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "work")
    source = model_source(name)
    monkeypatch.chdir("/")
    if place is None:
        assert source == name
    else:
        assert Path(source).samefile(tmp_path / place)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("../models/x", "no model folder at '/.*models/x'; check the path", id="up"),
        pytest.param("./x", "no model folder at '/.*x'", id="here"),
        pytest.param("~/x", "no model folder at '/.*x'", id="home"),
        pytest.param("~nobody-here/x", "'~nobody-here/x': .*; write the path out", id="nobody"),
        pytest.param("a/b/c", "no model folder at '/.*a/b/c'", id="too-deep-for-an-id"),
    ],
)
def test_a_path_without_a_model_says_where_it_looked(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        model_source(name)
