"""Which adapter is kept, by what the validation problems say of each step."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from rich.console import Console

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.reply import render
from xmlgrpo_rewards.task import Example, get_task
from xmlgrpo_rollout.engine import Completion, Sampling
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.metrics import read_log
from xmlgrpo_trainer.config.run_config import HoldoutConfig
from xmlgrpo_trainer.problems.exam import Exam
from xmlgrpo_trainer.problems.keep_best import (
    BEST,
    KeepBest,
    check_best,
    load_best,
    read_best,
    stopped_early,
)


class Improving:
    """An engine that gives the right reply to the first few of ten problems, by the step."""

    def __init__(self, results: dict[int, int]) -> None:
        self.results, self.step, self.right = results, 0, 0

    def refresh(self) -> None:
        self.right = self.results[self.step]

    def __call__(
        self, prompts: Sequence[Sequence[int]], samples: int, sampling: Sampling
    ) -> list[Completion]:
        asked = ["".join(map(chr, prompt)) for prompt in prompts]
        numbers = [int(prompt.rpartition("\n\n")[2]) for prompt in asked]
        replies = [render("1 + 0 = 1", "1") if n < self.right else "2" for n in numbers]
        return [Completion([*map(ord, reply), 0]) for reply in replies]


class Weights:
    """What `save_adapter` needs of a peft model: it writes one file."""

    def __init__(self) -> None:
        self.value = 0

    def save_pretrained(self, folder: Path, **_: Any) -> None:
        (folder / "adapter_model.safetensors").write_text(str(self.value))
        (folder / "README.md").write_text("a card with local paths")


Validate = Callable[..., list[int]]


@pytest.fixture
def validate(letters: Any) -> Validate:
    """Measures with results by step; returns the steps that were reached before a stop."""

    def run(
        folder: RunFolder,
        results: dict[int, int],
        patience: int | None = None,
        start: int = 0,
        stop_below: float | None = None,
        *,
        keep: Literal["best", "last"] = "best",
        log: Callable[[int, Mapping[str, float]], None] = lambda _step, _values: None,
    ) -> list[int]:
        config = HoldoutConfig(
            every=2, validation_rows=10, patience=patience, stop_below=stop_below, keep=keep
        )
        engine, quiet = Improving(results), Console(quiet=True)
        sampling = Sampling(99, temperature=0.0)
        exam = Exam(engine, letters, get_task("gsm8k"), sampling, [0], 10, quiet)
        problems = [Example(str(n), str(n), "1", "") for n in range(10)]
        keeper = KeepBest(exam, problems, folder, config, log=log)
        model, reached = Weights(), []
        state = SimpleNamespace(global_step=start, max_steps=max(results))
        keeper.on_train_begin(None, state, None)
        for step in range(start + 1, max(results) + 1):
            state.global_step = engine.step = model.value = step
            control = SimpleNamespace(should_save=False, should_training_stop=False)
            keeper.on_step_end(None, state, control, model=model)
            reached.append(step)
            if control.should_training_stop:
                assert control.should_save
                break
        return reached

    return run


def kept(folder: RunFolder) -> tuple[int, str]:
    best = read_best(folder)
    assert best is not None
    [weights] = folder.best.glob("step-*")
    return best["step"], (weights / "adapter_model.safetensors").read_text()


def test_the_best_is_kept_not_the_last(tmp_path: Path, validate: Validate) -> None:
    validate(RunFolder(tmp_path), {0: 1, 2: 4, 4: 8, 6: 5})
    assert kept(RunFolder(tmp_path)) == (4, "4")
    assert not list(RunFolder(tmp_path).best.glob("step-*/README.md"))


def test_trackers_get_the_shares_with_the_ends_of_their_intervals(
    tmp_path: Path, validate: Validate
) -> None:
    logged: dict[int, Mapping[str, float]] = {}
    validate(RunFolder(tmp_path), {0: 1, 2: 4}, log=logged.__setitem__)
    assert list(logged) == [0, 2]
    ends = [logged[2][f"validation/strict_accuracy{end}"] for end in ("_low", "", "_high")]
    assert ends == pytest.approx([0.168, 0.4, 0.687], abs=1e-3)  # Wilson's, of 4 in 10


def test_the_first_of_two_equals_is_kept(tmp_path: Path, validate: Validate) -> None:
    validate(RunFolder(tmp_path), {0: 1, 2: 8, 4: 8})
    assert kept(RunFolder(tmp_path)) == (2, "2")


def test_the_untrained_model_is_measured_but_never_kept(tmp_path: Path, validate: Validate) -> None:
    validate(RunFolder(tmp_path), {0: 9, 2: 3})
    assert kept(RunFolder(tmp_path)) == (2, "2")
    rows = read_log(tmp_path / "metrics.jsonl").rows.values()
    assert [row["validation/strict_accuracy"] for row in rows] == [0.9, 0.3]
    assert [row.get("validation/lost") for row in rows] == [None, 6]


def test_the_last_step_is_validated_though_it_is_no_multiple(
    tmp_path: Path, validate: Validate
) -> None:
    validate(RunFolder(tmp_path), {0: 1, 2: 2, 3: 9})
    assert kept(RunFolder(tmp_path)) == (3, "3")


def test_the_last_is_kept_where_that_is_asked_for(tmp_path: Path, validate: Validate) -> None:
    validate(RunFolder(tmp_path), {0: 1, 2: 8, 4: 4, 6: 3}, keep="last")
    assert kept(RunFolder(tmp_path)) == (6, "6")


@pytest.mark.parametrize(("patience", "last"), [(1, 4), (2, 6), (None, 10)])
def test_patience_stops_a_run_that_gets_no_better(
    tmp_path: Path, validate: Validate, patience: int | None, last: int
) -> None:
    results = {0: 1, 2: 5, 4: 5, 6: 4, 8: 3, 10: 2}
    assert validate(RunFolder(tmp_path), results, patience)[-1] == last
    assert kept(RunFolder(tmp_path))[0] == 2


@pytest.mark.parametrize(
    ("results", "last"),
    [
        pytest.param({0: 8, 2: 5, 4: 5, 6: 9, 8: 9}, 4, id="two-looks"),
        pytest.param({0: 8, 2: 5, 4: 6, 6: 5, 8: 6}, 8, id="never-two-in-a-row"),
        pytest.param({0: 0, 2: 0, 4: 0}, 4, id="nothing-to-lose"),
    ],
)
def test_a_run_far_below_the_untrained_model_is_stopped(
    tmp_path: Path, validate: Validate, results: dict[int, int], last: int
) -> None:
    assert validate(RunFolder(tmp_path), results, stop_below=0.7)[-1] == last
    assert stopped_early(RunFolder(tmp_path), last) == (last < max(results))


def test_a_best_beyond_the_checkpoint_that_a_run_resumes_from_is_kept(
    tmp_path: Path, validate: Validate
) -> None:
    validate(RunFolder(tmp_path), {0: 1, 2: 3, 4: 9})
    validate(RunFolder(tmp_path), {4: 2, 6: 1}, start=2)
    assert kept(RunFolder(tmp_path)) == (4, "4")
    best = read_best(RunFolder(tmp_path))
    assert best is not None
    assert best["strict_accuracy"] == 0.9


def test_a_run_that_patience_ended_says_so_to_the_one_that_continues_it(
    tmp_path: Path, validate: Validate
) -> None:
    validate(RunFolder(tmp_path), {0: 1, 2: 5, 4: 6}, patience=1)
    assert not stopped_early(RunFolder(tmp_path), 4)
    validate(RunFolder(tmp_path), {6: 2, 8: 1}, patience=1, start=4)
    assert stopped_early(RunFolder(tmp_path), 6)
    assert not stopped_early(RunFolder(tmp_path), 4)  # from an older checkpoint it goes on


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        pytest.param(f"{BEST}", b"", "is not JSON", id="empty"),
        pytest.param(f"{BEST}", b"\xff\xfe", "is not JSON", id="other-bytes"),
        pytest.param(f"{BEST}", b"[]", "expected a JSON object", id="list"),
        pytest.param(f"{BEST}", b'{"step": 2}', "is damaged or was changed", id="other-step"),
        pytest.param(f"{BEST}", None, "is missing", id="gone"),
        pytest.param("step-00004/adapter_model.safetensors", b"5", "was changed", id="weights"),
        pytest.param("step-00004/adapter_model.safetensors", None, "is missing", id="no-weights"),
    ],
)
def test_a_damaged_best_is_refused_and_not_replaced_in_silence(
    tmp_path: Path, validate: Validate, file: str, content: bytes | None, words: str
) -> None:
    folder = RunFolder(tmp_path)
    validate(folder, {0: 1, 2: 5, 4: 6})
    check_best(folder, 4)
    path = folder.best / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"{words}.* or remove {folder.best} and run"):
        check_best(folder, 4)


def test_a_best_that_a_killed_process_has_half_kept_is_no_damage(
    tmp_path: Path, validate: Validate
) -> None:
    folder = RunFolder(tmp_path)
    validate(folder, {0: 1, 2: 5})
    (folder.best / BEST).unlink()
    check_best(folder, 1)  # the checkpoint is older than what was being kept
    assert list(folder.best.iterdir()) == []


def test_what_a_killed_process_has_not_removed_is_removed(
    tmp_path: Path, validate: Validate
) -> None:
    folder = RunFolder(tmp_path)
    validate(folder, {0: 1, 2: 5})
    shutil.copytree(folder.best / "step-00002", folder.best / "step-00001")
    check_best(folder, 2)
    assert sorted(path.name for path in folder.best.iterdir()) == [BEST, "step-00002"]


def test_without_validation_nothing_is_kept(tmp_path: Path) -> None:
    assert read_best(RunFolder(tmp_path)) is None
    assert load_best(RunFolder(tmp_path), object()) is None
