"""A command killed at a chosen moment, and given again, leaves what an undisturbed one leaves.

bench/commands/faults.py strikes every stage at many moments; these are those at which one fell.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from damage import unnamed
from strikes import Strike, contents, differences, run

ROOT = Path(__file__).resolve().parents[2]
RUN = ("--run", "outputs/tiny")
TRAIN = (
    *("xmlgrpo-train", "--config", str(ROOT / "configs/tiny.yaml"), *RUN),
    *("grpo.max_steps=3", "grpo.save_steps=1", "data.generated_rows=64"),
    *("grpo.per_device_train_batch_size=8", "grpo.num_generations=4"),
    *("grpo.max_completion_length=16", "holdout.report_rows=8", "holdout.validation_rows=8"),
    *("holdout.every=1", "model.tiny.warm_steps=20"),
)
KILLS = (
    Strike("kill", 1, r"^os\.rename outputs/base/[^/]+$"),
    Strike("kill", 1, r"^os\.rename .*/checkpoint-2/\.complete\.json"),
    Strike("kill", 4, r"^os\.remove [^/]+$"),  # checkpoint-1 is removed, half of its files are gone
    Strike("kill", 1, r"^os\.rename .*/\.manifest\.json"),
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@dataclass(frozen=True)
class Whole:
    """A run that nothing happened to, and where it ran: a folder that others run in after it."""

    work: Path
    after: Path
    files: dict[str, str]

    @property
    def scratch(self) -> Path:
        """Where the hook that strikes is written."""
        return self.work.parent / "scratch"

    def begin(self, with_run: bool) -> None:
        """The folder as it was before the run, or after it."""
        shutil.rmtree(self.work)
        self.work.mkdir()
        if with_run:
            shutil.copytree(self.after, self.work, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    home = tmp_path_factory.mktemp("struck")
    work, after = home / "work", home / "after"
    work.mkdir()
    ended = run(TRAIN, work, scratch=home / "scratch", fork=True)
    assert ended.code == 0, ended.errors
    assert unnamed(work / "outputs" / "tiny") == []
    shutil.copytree(work, after)
    return Whole(work, after, contents(work))


def test_training_killed_four_times_leaves_what_one_that_was_not_leaves(whole: Whole) -> None:
    whole.begin(with_run=False)
    for strike in KILLS:
        ended = run(TRAIN, whole.work, strike, scratch=whole.scratch, fork=True)
        assert (ended.code, ended.orphans) == (-9, ()), (strike, ended.errors)
    ended = run(TRAIN, whole.work, scratch=whole.scratch, fork=True)
    assert ended.code == 0, ended.errors
    assert differences(whole.files, contents(whole.work)) == []


@pytest.mark.parametrize(
    ("words", "strike"),
    [
        pytest.param(
            ("xmlgrpo-export", "merge", *RUN),
            Strike("kill", 1, r"^os\.rename outputs/tiny/\.merged[^/]*$"),
            id="merge",
        ),
        pytest.param(
            ("xmlgrpo-report", *RUN), Strike("kill", 1, r"^os\.rename .*/\.report"), id="report"
        ),
        pytest.param(("xmlgrpo-report", *RUN), Strike("full", 2), id="report-full-disk"),
    ],
)
def test_a_stage_that_was_struck_and_the_same_command_again(
    whole: Whole, words: tuple[str, ...], strike: Strike
) -> None:
    whole.begin(with_run=True)
    ended = run(words, whole.work, strike, scratch=whole.scratch, fork=True)
    if strike.fault == "kill":
        assert ended.code == -9
    else:
        assert ended.code == 2
        assert "report.html could not be written (" in ended.errors
        assert "Traceback" not in ended.errors
    changed = differences(whole.files, contents(whole.work))
    assert [name for name in changed if ".partial" not in name] == []
    assert run(words, whole.work, scratch=whole.scratch, fork=True).code == 0
    made = differences(whole.files, contents(whole.work))
    assert made
    assert all("merged/" in name or name.endswith("report.html") for name in made)
