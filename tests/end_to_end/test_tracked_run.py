"""One short run into wandb, trackio and TensorBoard at once, and what each of them holds."""

import json
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.metrics import read_log

pytestmark = [pytest.mark.trackers, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
STEPS = 6
BAND = [f"validation/strict_accuracy{end}" for end in ("", "_low", "_high")]
SERIES = [*BAND, "sampled/lenient", "rewards/correctness_reward_func/mean"]
OVERRIDES = (
    *(f"grpo.max_steps={STEPS}", f"grpo.save_steps={STEPS}", "grpo.max_completion_length=8"),
    *("holdout.report_rows=8", "holdout.validation_rows=8", "holdout.every=3"),
    *("data.generated_rows=32", "model.tiny.warm_steps=20", "watch.wandb=offline"),
    *("watch.samples_every=3", "watch.samples_kept=4", "watch.trackers=[trackio, tensorboard]"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose replies are all cut, so that the doctor has something to say."""
    folder = RunFolder(tmp_path_factory.mktemp("outputs") / "tracked")
    main = "from xmlgrpo_trainer.cli import main; main()"
    command = ["--config", "configs/tiny.yaml", "--run", str(folder.root), *OVERRIDES]
    done = subprocess.run(
        [sys.executable, "-c", main, *command],
        cwd=ROOT,
        env=os.environ | {"TRACKIO_SPACE_ID": "nobody/nothing"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def logged(run: RunFolder) -> dict[str, list[tuple[int, float]]]:
    """The series that every tracker must hold, as `metrics.jsonl` has them."""
    log = read_log(run.metrics)
    return {name: log.series(name) for name in SERIES if name not in BAND[1:]}


def wandb_records(folder: Path) -> Iterator[Any]:
    """The records of an offline run: LevelDB's log format, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    [path] = folder.glob("wandb/offline-run-*/*.wandb")
    data, at, whole = path.read_bytes(), 7, b""
    assert data.startswith(b":W&B")
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:  # a block's end is filled up
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # the whole of a record, or its last part
            record = Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def series_of(rows: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    return {
        name: [(row["train/global_step"], row[name]) for row in rows if name in row]
        for name in SERIES
    }


def check_series(
    found: dict[str, list[tuple[int, float]]], logged: dict[str, list[tuple[int, float]]]
) -> None:
    """The values are those of the run's own file, and the band is around them."""
    for name, values in logged.items():
        assert [step for step, _ in found[name]] == [step for step, _ in values], name
        assert [value for _, value in found[name]] == pytest.approx([v for _, v in values]), name
    assert [step for step, _ in found[BAND[0]]] == [0, 3, 6]
    for (_, value), (_, low), (_, high) in zip(*(found[name] for name in BAND), strict=True):
        assert low - 1e-6 <= value <= high + 1e-6
        assert low < high


def test_wandb(run: RunFolder, logged: dict[str, list[tuple[int, float]]]) -> None:
    records = list(wandb_records(run.root))
    rows = [
        {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in record.history.item
        }
        for record in records
        if record.HasField("history")
    ]
    check_series(series_of(rows), logged)
    axes = {
        record.metric.glob_name: record.metric.step_metric
        for record in records
        if record.HasField("metric")
    }
    for group in ("train", "validation", "sampled", "rewards"):
        assert axes[f"{group}/*"] == "train/global_step"
    [config] = [
        json.loads(item.value_json)
        for record in records
        for item in record.config.update
        if item.key == "xmlgrpo"
    ]
    assert config["grpo"]["max_steps"] == STEPS
    # the table grows: each part has new rows only and names the parts before it
    parts = [row for row in rows if "completions/nrows" in row]
    assert [part["completions/nrows"] for part in parts] == [4, 8, 12]
    assert [len(part["completions/previous_increments_paths"]) for part in parts] == [0, 1, 2]
    [files] = run.root.glob("wandb/offline-run-*/files")
    tables = [
        json.loads((files / part["completions/path"]).read_text(encoding="utf-8")) for part in parts
    ]
    assert [[row[0] for row in table["data"]] for table in tables] == [[1] * 4, [3] * 4, [6] * 4]
    assert "rewards/correctness_reward_func" in tables[0]["columns"]
    alerts = [record.alert.title for record in records if record.HasField("alert")]
    assert alerts
    assert len(alerts) == len(set(alerts))


def test_trackio(run: RunFolder, logged: dict[str, list[tuple[int, float]]]) -> None:
    database = sqlite3.connect(run.trackio / "xmlgrpo.db")
    stored = database.execute("select metrics from metrics order by id").fetchall()
    check_series(series_of([json.loads(row) for (row,) in stored]), logged)
    [(config,)] = database.execute("select config from configs").fetchall()
    assert json.loads(config)["xmlgrpo"]["grpo"]["max_steps"] == STEPS
    titles = [title for (title,) in database.execute("select title from alerts").fetchall()]
    assert titles
    assert len(titles) == len(set(titles))
    database.close()


def test_tensorboard(run: RunFolder, logged: dict[str, list[tuple[int, float]]]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.tensorboard)).Reload()
    found = {name: [(one.step, one.value) for one in events.Scalars(name)] for name in SERIES}
    check_series(found, logged)
    tags = events.Tags()["tensors"]
    assert "xmlgrpo/text_summary" in tags
    assert any(tag.startswith("doctor/") for tag in tags)
