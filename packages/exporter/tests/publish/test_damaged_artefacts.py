"""Every fault at every file that the stages after training left, before `push` looks at them."""

from pathlib import Path

import pytest
from rich.console import Console

from damage import every_fault
from xmlgrpo_exporter.proof.blockers import gate_problems, model_digests, result_problems
from xmlgrpo_exporter.publish.preflight import Destination
from xmlgrpo_exporter.publish.release import prepare_release
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import RunFolder

from ..run_folders import write_full_run

QUIET = Console(quiet=True)
WHAT = ["adapter", "merged", "gguf"]


def read(run: RunFolder) -> object:
    """What would be uploaded, or why nothing is."""
    to = Destination("https://hub.example", "alice/sums", "main", private=True)
    release = prepare_release(
        run, to, WHAT, "google/gemma-3-1b-it", look_up=lambda _: None, secrets=(), console=QUIET
    )
    digests = model_digests(release, QUIET)
    problems = [*gate_problems(release, digests, ungated=False), *result_problems(release, digests)]
    if problems:
        raise UserError("; ".join(problems).replace("\n", " "))
    return {file.target: file.sha256 for file in release.files}


@pytest.fixture
def there(tmp_path: Path) -> Path:
    write_full_run(tmp_path / "there" / "sums")
    return tmp_path / "there"


def test_nothing_damaged_is_published(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["xmlgrpo-export"])
    run = RunFolder(there / "sums")
    folders = (run.adapter, run.merged, run.gguf)
    files = [str(path.relative_to(there)) for folder in folders for path in folder.iterdir()]
    files += [str(path.relative_to(there)) for path in (run.ladder, run.curves, run.manifest)]

    def is_fine(_file: str, value: object, sound: object) -> bool:
        """Also where a file that proves nothing stayed at home."""
        assert isinstance(value, dict)
        assert isinstance(sound, dict)
        return value.items() <= sound.items()

    wrong = every_fault(there, sorted(files), lambda: read(run), is_fine)
    assert not wrong, "\n".join(wrong)
