"""The one reader and writer of a run's metrics, on files as killed and resumed runs leave them."""

import json
from pathlib import Path
from time import process_time

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.metrics import MAX_LOG_BYTES, MAX_LOG_LINES, append_row, read_log


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_of_a_step_that_occurs_twice_the_last_value_counts(tmp_path: Path) -> None:
    log = read_log(
        write(
            tmp_path / "metrics.jsonl",
            '{"step": 2, "reward": 2.0}',
            '{"step": 1, "reward": 1.0, "entropy": 0.5}',
            '{"step": 1, "validation/strict_accuracy": 0.4}',
            '{"step": 2, "reward": 9.0}',
            '{"step": 3, "rew',  # what a kill cut off
        )
    )
    assert list(log.rows.values()) == [
        {"step": 1, "reward": 1.0, "entropy": 0.5, "validation/strict_accuracy": 0.4},
        {"step": 2, "reward": 9.0},
    ]
    assert log.series("reward") == [(1, 1.0), (2, 9.0)]
    assert log.series("validation/strict_accuracy") == [(1, 0.4)]
    assert log.names() == {"step", "reward", "entropy", "validation/strict_accuracy"}
    assert log.broken_lines == ()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("{", id="not-json"),
        pytest.param("[1]", id="a-list"),
        pytest.param('{"reward": 1}', id="no-step"),
        pytest.param('{"step": "4"}', id="step-is-text"),
        pytest.param('{"step": -1}', id="negative-step"),
        pytest.param("[" * 100_000, id="deeply-nested"),
    ],
)
def test_a_broken_line_in_the_midst_is_counted_and_passed_over(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "m", '{"step": 1, "reward": 1}', line, '{"step": 2, "reward": 2}', "")
    log = read_log(path)
    assert log.broken_lines == (2,)
    assert log.series("reward") == [(1, 1.0), (2, 2.0)]


@pytest.mark.parametrize(
    "value",
    ["true", '"0.5"', "[0.5]", "null", "NaN", "Infinity", "1e308", "-1e308", f"1{'0' * 400}"],
)
def test_what_is_no_finite_number_is_no_value(tmp_path: Path, value: str) -> None:
    log = read_log(write(tmp_path / "m", f'{{"step": 1, "grad_norm": {value}}}'))
    assert log.series("grad_norm") == []
    assert log.not_finite("grad_norm") == [1]


def test_a_run_that_has_logged_nothing_has_an_empty_log(tmp_path: Path) -> None:
    assert read_log(tmp_path / "none.jsonl").rows == {}


def test_what_is_no_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_log(tmp_path)


def test_a_row_after_half_a_line_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    append_row(path, {"step": 1, "note": "苹果"})
    with path.open("a", encoding="utf-8") as lines:
        lines.write('{"step": 2, "rew')
    append_row(path, {"step": 2, "reward": 0.5})
    append_row(path, {"step": 3, "reward": 0.75})
    log = read_log(path)
    assert list(log.rows) == [1, 2, 3]
    assert log.rows[1]["note"] == "苹果"
    assert log.series("reward") == [(2, 0.5), (3, 0.75)]
    assert log.broken_lines == (2,)


def test_a_number_that_json_does_not_know_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(ValueError, match="JSON compliant"):
        append_row(path, {"step": 1, "loss": float("nan")})
    assert not path.exists()
    append_row(path, {"step": 1, "loss": 0.5})
    assert json.loads(path.read_text()) == {"step": 1, "loss": 0.5}


@pytest.mark.parametrize("piece", ["{}\n", "\n", " "])
def test_a_log_of_more_than_any_run_writes_is_refused_at_once(tmp_path: Path, piece: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(piece * (MAX_LOG_LINES + 1))
    with path.open("ab") as file:
        file.truncate(MAX_LOG_BYTES + 1)
    began = process_time()
    with pytest.raises(UserError, match="a run logs at most 500,000 lines"):
        read_log(path)
    assert process_time() - began < 5, "it was parsed"
