"""What is shown while libraries and models are loaded: transformers' own counts move our bar."""

import io
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from rich.console import Console

from xmlgrpo_run.screen import loading
from xmlgrpo_run.screen.progress import Stage


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[Stage]:
    """The stages that are shown, for a look at their figures; no time passes meanwhile."""
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    made: list[Stage] = []

    def make(*arguments: object, **options: object) -> Stage:
        made.append(Stage(*arguments, **options))  # type: ignore[arg-type]  # passed on as they are
        return made[-1]

    monkeypatch.setattr(loading, "Stage", make)
    return made


def test_transformers_bar_over_the_tensors_moves_ours(tmp_path: Path, stages: list[Stage]) -> None:
    from transformers.utils.logging import tqdm

    with loading.loading_model(Console(quiet=True), str(tmp_path), None):
        assert stages[0].figures() == "0:00:00"
        seen = [
            stages[0].figures().split("  ")[0]
            for _ in tqdm({"a": 1, "b": 2}.items(), desc="Loading weights")
        ]
    assert seen == ["0/2 tensors", "1/2 tensors"]
    assert stages[0].figures().startswith("2/2 tensors")


def test_transformers_still_has_the_bar_that_is_looked_for() -> None:
    found = find_spec("transformers.core_model_loading")
    assert found is not None
    assert found.origin is not None
    assert f'desc="{loading.LOADING}"' in Path(found.origin).read_text(encoding="utf-8")


def test_a_download_is_counted_by_what_lies_in_the_cache(
    tmp_path: Path, stages: list[Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask(name: str, _revision: str | None) -> int:
        asked.append(name)
        return 40_000_000

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(loading, "_total_bytes", ask)  # the network's edge
    blobs = tmp_path / "models--google--gemma-3-1b-it" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "config").write_bytes(b"0" * 1000)  # was there before
    with loading.loading_model(Console(quiet=True), "google/gemma-3-1b-it", None):
        assert stages[0].figures() == "0.0 MB  0:00:00"
        assert asked == []
        (blobs / "weights.incomplete").write_bytes(b"0" * 10_000_000)
        figures = [stages[0].figures() for _ in range(2)]
    assert asked == ["google/gemma-3-1b-it"]
    assert figures[-1].startswith("10.0/40.0 MB")


def test_libraries_are_counted_by_what_is_imported(
    stages: list[Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    loading.reading_libraries(Console(file=io.StringIO()), 4700)
    assert stages[0].figures().startswith("0/4,700 modules")
    for number in range(100):
        monkeypatch.setitem(sys.modules, f"a_module_{number}", sys)
    assert stages[0].figures().startswith("100/4,700 modules")
