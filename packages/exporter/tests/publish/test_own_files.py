"""What is sent lies in the folder itself and is what was hashed: no link, no exchanged file."""

import os
import re
import socket
import stat
from contextlib import closing
from pathlib import Path

import pytest

from xmlgrpo_exporter.publish.own_files import OwnFile
from xmlgrpo_rewards.errors import UserError

from .. import run_folders
from ..cards import write_evaluation
from ..publishing import MARKS, REPO, publish

pytestmark = MARKS

SECRET = b"the secret of another folder"
PLACES = (
    "adapter/adapter_model.safetensors",
    "adapter/adapter_config.json",
    "adapter/tokenizer.json",
    "adapter/tokenizer.model",
    "merged/model.safetensors",
    "merged/generation_config.json",
    "merged/merge.json",
    "gguf/gsm8k-1b-q8_0.gguf",
    "gguf/gsm8k-1b-q8_0.Modelfile",
    "gguf/check.json",
    "eval/tuned.json",
    "eval/notes.json",
    "ladder.json",
    "curves.png",
    "manifest.json",
)


def moved_out(path: Path) -> Path:
    """The file's place in another folder, where it is now; a secret where there was none."""
    run = next(parent for parent in path.parents if (parent / "config.yaml").exists())
    outside = run.parent / path.name
    if path.exists():
        path.rename(outside)
    else:
        outside.write_bytes(SECRET)
    return outside


def link(path: Path) -> None:
    path.symlink_to(moved_out(path))


def hard_link(path: Path) -> None:
    path.hardlink_to(moved_out(path))


def pipe(path: Path) -> None:
    moved_out(path)
    os.mkfifo(path)


def socket_file(path: Path) -> None:
    moved_out(path)
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path has at most about a hundred characters
    try:
        with closing(socket.socket(socket.AF_UNIX)) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


@pytest.fixture
def run(run):
    """The run, evaluated."""
    write_evaluation(run)
    return run


@pytest.mark.parametrize(
    ("plant", "place"),
    [
        *((link, place) for place in PLACES),
        *((hard_link, place) for place in PLACES[:: len(PLACES) // 5]),
        *((pipe, place) for place in PLACES[1 :: len(PLACES) // 5]),
        *((socket_file, place) for place in PLACES[2 :: len(PLACES) // 5]),
    ],
)
def test_what_is_no_file_of_the_run_stops_the_upload(hub, run, place, plant):
    plant(run / place)
    with pytest.raises(UserError) as refusal:
        publish(hub, run)
    assert re.search(r"link|pipe|socket|not a file|lacks|missing", str(refusal.value))
    assert Path(place).name in str(refusal.value)
    assert hub.writes() == []
    assert not any(SECRET in request.body for request in hub.requests)


@pytest.mark.parametrize("place", ["adapter", "merged", "gguf", "eval", "holdout"])
def test_a_folder_of_the_run_is_no_link_to_another_one(hub, run, place):
    (run / "holdout").mkdir()
    (run / "holdout/report-after.json").write_text("{}")
    run_folders.write_gates(run)
    (run / place).rename(run.parent / "elsewhere")
    (run / place).symlink_to(run.parent / "elsewhere")
    with pytest.raises(UserError, match=rf"{place}/ on the way to .* is a link"):
        publish(hub, run)
    assert hub.writes() == []


def test_the_run_itself_may_be_reached_through_a_link(hub, run):
    (run.parent / "named").symlink_to(run)
    assert publish(hub, run.parent / "named")[0] == 0


def test_names_within_the_run_are_its_own(hub, run):
    (run / "best").mkdir()
    (run / "best/adapter_model.safetensors").hardlink_to(run / "adapter/adapter_model.safetensors")
    assert publish(hub, run)[0] == 0


def test_a_device_is_not_opened(tmp_path):
    device = next(path for path in Path("/dev").iterdir() if stat.S_ISCHR(path.lstat().st_mode))
    with pytest.raises(UserError, match="is a device; only files that lie in the folder"):
        OwnFile(Path("/dev"), device)


WEIGHTS = ("merged/model.safetensors", "adapter/adapter_model.safetensors")


def exchanging(run, place: str, at: str):
    """Another file takes the name at a request."""
    content = (run / place).read_bytes()

    def exchange(request):
        if at in f"{request.method} {request.path}":
            (run / "other").write_bytes(SECRET + content)
            (run / "other").replace(run / place)

    return exchange


@pytest.mark.parametrize(
    ("place", "target"),
    [("curves.png", "results/curves.png"), ("adapter/tokenizer.json", "adapter/tokenizer.json")],
)
@pytest.mark.parametrize("at", ["create", "PUT"])
def test_a_small_file_is_sent_as_it_was_checked(hub, run, place, target, at):
    checked = (run / place).read_bytes()
    hub.before = exchanging(run, place, at)
    assert publish(hub, run)[0] == 0
    assert (run / place).read_bytes() != checked, "it was never exchanged"
    assert hub.repos[REPO].tree()[target].content == checked


@pytest.mark.parametrize("place", WEIGHTS)
@pytest.mark.parametrize("at", ["create", "preupload", "PUT"])
def test_weights_exchanged_meanwhile_are_not_committed(hub, run, place, at):
    hub.before = exchanging(run, place, at)
    with pytest.raises(UserError, match="changed while it was published"):
        publish(hub, run)
    assert hub.repos[REPO].messages == []
    assert not any(SECRET in request.body for request in hub.requests)


@pytest.mark.parametrize("place", WEIGHTS)
@pytest.mark.parametrize("at", ["create", "preupload", "PUT"])
def test_a_file_that_is_written_into_meanwhile_is_not_committed(hub, run, place, at):
    state = (run / place).stat()

    def write(request):
        if at in f"{request.method} {request.path}":
            with (run / place).open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"\7")
            os.utime(run / place, ns=(state.st_atime_ns, state.st_mtime_ns))  # as if nothing was

    hub.before = write
    with pytest.raises(UserError, match=r"changed while it was published|could not|refused with"):
        publish(hub, run)
    assert hub.repos[REPO].messages == []


def test_the_base_of_a_folder_from_elsewhere_stays_here(hub, tmp_path):
    """Its adapter may name any folder of this machine as its base."""
    run_folders.write_merged(tmp_path / "private")
    (tmp_path / "private/README.md").write_text("---\nlicense: mit\n---\n")
    run_folders.write_adapter(tmp_path / "found", base=str(tmp_path / "private"))
    assert publish(hub, tmp_path / "found")[0] == 0
    assert not any("base/" in path for path in hub.repos[REPO].tree())
