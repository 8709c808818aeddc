"""`make merge`, `make gguf` and `make push DRY_RUN=1` at a terminal."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_server import serve

from .screen import SCREENS, Screen, on_every_screen, record, script, started
from .shown import bar_of, check, interrupted, replay

pytestmark = pytest.mark.terminal

EXPORT = script("xmlgrpo-export")
MERGE = [EXPORT, "merge", "--run", "sums"]
QUANTS = ("q8_0", "q4_k_m")
GGUF = [EXPORT, "gguf", "--run", "sums", "--quants", *QUANTS]
PUSH = [EXPORT, "push", "--run", "sums", "--repo", "alice/sums", "--dry-run"]
TOKEN = "hf_" + "TerminalTests" * 2  # pragma: allowlist secret


@pytest.fixture(scope="module")
def hub() -> Iterator[dict[str, str]]:
    """The environment of a hub on this machine."""
    with serve({TOKEN: ("alice", "write")}) as server:
        yield {"HF_ENDPOINT": server.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}


@pytest.mark.allow_hosts(["127.0.0.1"])
@on_every_screen
def test_push_shows_what_would_go(trained: Path, hub: dict[str, str], screen: Screen) -> None:
    shown = check(record(PUSH, screen, cwd=trained, environment=hub))
    assert shown.lines[-1] == "dry run: nothing was sent"


def test_a_merge_is_stopped_and_goes_on(house: Path) -> None:
    with started(MERGE, SCREENS["80"], cwd=house) as running:
        running.until(r"/16 replies .*left")
        running.press_ctrl_c()
        stopped = running.end()
    assert "nothing was merged" in interrupted(stopped)
    bar_of(replay(stopped), "replies of the adapter")
    assert not (house / "outputs/sums/merged").exists()
    assert "wrote" in check(record(MERGE, SCREENS["100"], cwd=house, loaded=True)).text
    for on in ("120", "no-color", "pipe"):
        shown = check(record(MERGE, SCREENS[on], cwd=house, loaded=True))
        assert "is up to date" in shown.text


def test_a_merge_on_a_dumb_terminal(house: Path) -> None:
    shown = check(record([*MERGE, "--prompts", "4"], SCREENS["dumb"], cwd=house, loaded=True))
    assert "wrote" in shown.text


@pytest.mark.gguf
def test_gguf_files_are_stopped_and_go_on(house: Path) -> None:
    """Stopped while the second file is at its gates: the first is kept, and not made again."""
    check(record(MERGE, SCREENS["pipe"], cwd=house))
    with started(GGUF, SCREENS["80"], cwd=house) as running:
        running.until("quantizing to q4_k_m")
        running.press_ctrl_c()
        stopped = running.end()
    assert "kept" in interrupted(stopped)
    bar_of(replay(stopped), "replies to compare with")
    first, second = (house / f"outputs/sums/gguf/sums-{quant}.gguf" for quant in QUANTS)
    made = first.stat().st_mtime_ns
    assert not second.exists()
    shown = check(record(GGUF, SCREENS["100"], cwd=house))
    assert f"{first.relative_to(house)} is up to date" in shown.text
    assert second.exists()
    assert first.stat().st_mtime_ns == made
    for on in ("120", "dumb", "pipe"):
        shown = check(record(GGUF, SCREENS[on], cwd=house))
        assert f"{second.relative_to(house)} is up to date" in shown.text


@pytest.mark.gguf
def test_a_gguf_file_without_colour(house: Path) -> None:
    few = ("--prompts", "4", "--new-tokens", "16")
    words = [EXPORT, "gguf", "--run", "sums", "--quants", "q8_0", *few]
    check(record([*MERGE, *few], SCREENS["pipe"], cwd=house))
    assert "pass greedy" in check(record(words, SCREENS["no-color"], cwd=house)).text
