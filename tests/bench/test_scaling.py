"""Scaling: what is measured, the clock, and table and plot of invented measurements."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from xmlgrpo_rewards.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def result(size: str, prompts: int, gpus: int, step_s: float, **more: Any) -> dict[str, Any]:
    hardware = {"device": "NVIDIA H200", "processes": gpus}
    facts = {"size": size, "prompts": prompts, "gpus": gpus, "step_s": step_s}
    return {**facts, "hardware": hardware, **more}


PARTS_S = {"rollout": 0.5, "training": 1.0, "synchronisation": 0.1, "host": 0.4}
MADE = [
    result("1b", 32, 1, 4.0, parts_s=PARTS_S),
    result("1b", 32, 2, 2.5),  # 4 is missing
    result("1b", 64, 2, 5.0),
    result("4b", 32, 4, 3.0),  # and so is the single GPU of this size
]


def written(folder: Path, results: list[dict[str, Any]], name: str = "made.json") -> Path:
    path = folder / name
    path.write_text(json.dumps({"results": results}), encoding="utf-8")
    return path


def test_a_missing_size_is_a_missing_row(tmp_path: Path) -> None:
    from bench.several_gpus.scaling_table import read, table

    head, _, *rows, _, last = table(read([written(tmp_path, MADE)])).splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (head, *rows)]
    assert cells == [
        ["model", "prompts", "GPUs", "step", *PARTS_S, "strong", "weak"],
        ["1B", "32", "1", "4.00 s", "0.50", "1.00", "0.10", "0.40", "100%", "100%"],
        ["1B", "32", "2", "2.50 s", "-", "-", "-", "-", "80%", "-"],
        ["1B", "64", "2", "5.00 s", "-", "-", "-", "-", "-", "80%"],
        ["4B", "32", "4", "3.00 s", "-", "-", "-", "-", "-", "-"],
    ]
    assert last == "Measured on: NVIDIA H200."


def test_nothing_measured_is_said_and_the_plot_is_drawn_from_what_is_there(tmp_path: Path) -> None:
    from bench.several_gpus.scaling_table import draw, read, table

    assert table([]) == "Nothing is measured yet."
    for name, results in (("none", []), ("some", MADE)):
        draw(read([written(tmp_path, results)]), tmp_path / f"{name}.svg")
        assert (tmp_path / f"{name}.svg").read_text(encoding="utf-8").endswith("</svg>\n")


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        pytest.param(['{"runs": []}'], "expected what scaling.py writes", id="another-script's"),
        pytest.param(["not JSON"], "expected what scaling.py writes", id="no-json"),
        pytest.param([json.dumps({"results": MADE})] * 2, "32 prompts on 1 twice", id="twice"),
    ],
)
def test_what_cannot_be_read_is_refused(texts: list[str], told: str, tmp_path: Path) -> None:
    from bench.several_gpus.scaling_table import read

    paths = [tmp_path / f"{index}.json" for index in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=told):
        read(paths)


def test_the_table_goes_between_its_two_lines(tmp_path: Path) -> None:
    from bench.several_gpus.scaling_table import put_into

    text = "a\n<!-- scaling -->\nold\n<!-- /scaling -->\nb\n"
    assert put_into(text, "new") == text.replace("old", "new")
    for broken in ("a\n", "<!-- scaling -->\n", f"{text}{text}"):
        with pytest.raises(UserError, match="once each"):
            put_into(broken, "new")


def test_every_batch_is_measured_once_small_ones_first() -> None:
    from bench.shared.cases import Point, points

    found = points(["1b"], [32, 128], [1, 2, 4])
    shares = [(point.prompts, point.gpus) for point in found]
    strong = {(prompts, gpus) for prompts in (32, 128) for gpus in (1, 2, 4)}
    assert set(shares) == strong | {(64, 2), (256, 2), (512, 4)}  # 128 on 4 is both
    assert len(shares) == len(set(shares))
    per_gpu = [prompts / gpus for prompts, gpus in shares]
    assert per_gpu == sorted(per_gpu)
    assert Point("1b", 32, 1).stands_in(MADE)
    assert not Point("1b", 32, 4).stands_in(MADE)


def test_a_part_inside_another_is_not_the_outer_s(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.several_gpus.rank_clock import Clock

    now = [5.0]

    def work(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    clock = Clock(lambda: work(0.5))  # waits for the GPU, before a part's end
    clock.timed("training", work)(1)  # a step that is not timed
    clock.next_step(timed=True)
    with clock.part("training"):
        work(1)
        clock.timed("synchronisation", work)(2)
        work(4)
    work(8)
    clock.next_step(timed=True)
    clock.next_step(timed=False)
    first, second = clock.steps
    assert first == {"rollout": 0, "training": 6, "synchronisation": 2.5, "host": 9}
    assert second == {"rollout": 0, "training": 0, "synchronisation": 0, "host": 0.5}


@pytest.mark.scripts
def test_one_two_and_four_processes_are_measured_and_the_file_goes_on(tmp_path: Path) -> None:
    rows = [
        {
            "question": f"Ann has {number} pens and buys {number + 2} more. How many has she?",
            "answer": f"She has {number}+{number + 2} = {2 * number + 2}.\n#### {2 * number + 2}",
        }
        for number in range(300)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "scaling.json"
    sizes = ["--sizes", "tiny", "--prompts", "4", "--tokens", "8", "--steps", "3"]
    command = [sys.executable, "-m", "bench.several_gpus.scaling", "model.device=cpu", *sizes]
    command += ["--gsm8k", str(tmp_path), "--out", str(out), "--gpus"]
    for gpus, cases in ((["1"], 1), (["1", "2", "4"], 5)):
        subprocess.run(
            [*command, *gpus],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=True,
            timeout=900,
        )
        assert len(json.loads(out.read_text())["results"]) == cases
    for one in json.loads(out.read_text())["results"]:
        assert one["hardware"]["processes"] == one["gpus"] == len(one["ranks"])
        for part, seconds in one["parts_s"].items():
            all_s = [step[part] for rank in one["ranks"] for step in rank["steps"]]
            assert min(all_s) - 1e-4 <= seconds <= max(all_s) + 1e-4
        assert (one["parts_s"]["synchronisation"] > 0) == (one["gpus"] > 1)
        assert all(one["parts_s"][part] > 0 for part in ("rollout", "training", "host"))
    assert str(tmp_path) not in out.read_text()
