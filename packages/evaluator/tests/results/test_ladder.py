import io
import json
import re
import shutil
import signal
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from finished_runs import compared
from xmlgrpo_evaluator.models import run_model
from xmlgrpo_evaluator.results import ladder as ladder_module
from xmlgrpo_evaluator.results.ladder import climb, exit_code
from xmlgrpo_evaluator.results.ladder_table import cells, show
from xmlgrpo_evaluator.settings import Evaluation, EvaluationSettings
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import digest, model_files
from xmlgrpo_run.files import read_sealed, write_sealed
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import read_manifest

from ..conftest import command, finish
from ..tiny_model import ITEMS
from .test_compare import result

TOTAL = 50
SETTINGS = EvaluationSettings()


def put(run: RunFolder, label: str, right: int, **prompts) -> None:
    """Write the result that an evaluation would have written."""
    content = result(label, [n < right for n in range(TOTAL)])
    content["model"] = {"size_bytes": 1000, "model_num_parameters": 500}
    content["speed"] = {"tokens_per_s": 10.0, "peak_mib": 20.0}
    content["prompts"] |= prompts
    model = run_model(run, read_manifest(run), label)
    out = SETTINGS.result_file(run.eval, label)
    content["subject"] = Evaluation(model, SETTINGS, out).identity(None)
    write_sealed(out, content)


def no_model(evaluation: Evaluation) -> None:
    pytest.fail(f"asked {evaluation.model}")


@pytest.fixture
def evaluated(tmp_path, monkeypatch) -> RunFolder:
    """A run whose models have all been evaluated: climbing it asks nothing."""
    monkeypatch.delenv("GSM8K_DIR", raising=False)
    run = RunFolder(tmp_path / "sums")
    files = {
        run.root / "base" / "config.json": 2,
        run.adapter / "adapter_config.json": 2,
        run.merged / "config.json": 2,
        run.merged / "model.safetensors": 4000,
        run.gguf / "sums-q8_0.gguf": 1000,
        run.gguf / "sums-q4_k_m.gguf": 500,
    }
    for path, size in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    finish(run, run.root / "base")
    compared(run.merged)
    put(run, "base", 10)
    for label in ("tuned", "merged", "sums-q8_0"):
        put(run, label, 40)
    put(run, "sums-q4_k_m", 39)
    return run


def climbed(
    run: RunFolder, tolerance: float = 0.02, settings: EvaluationSettings = SETTINGS
) -> tuple[bool, dict[str, Any], str]:
    out = io.StringIO()
    console = Console(file=out, width=160)
    manifest = read_manifest(run)
    passed = climb(run, manifest, settings, tolerance, console, evaluate=no_model)
    return passed, json.loads(run.ladder.read_text()), out.getvalue()


def test_rungs_go_from_the_base_to_the_smallest_file(evaluated):
    passed, ladder, shown = climbed(evaluated)
    assert passed
    assert [(rung["label"], rung["against"]) for rung in ladder["rungs"]] == [
        ("base", None),
        ("tuned", None),
        ("merged", "tuned"),
        ("sums-q8_0", "merged"),
        ("sums-q4_k_m", "merged"),
    ]
    assert ladder["rungs"][4]["difference"]["value"] == pytest.approx(-0.02)
    assert evaluated.ladder_plot.read_bytes().startswith(b"\x89PNG")
    assert "the gate is passed" in shown
    assert "cannot be ruled out" in shown, "50 items cannot show that 2 points are kept"


def test_a_rung_names_the_bytes_that_it_was_measured_on(evaluated):
    _, ladder, _ = climbed(evaluated)
    contents = {rung["label"]: rung["content"] for rung in ladder["rungs"]}
    adapter = evaluated.adapter
    for label, source in (
        ("merged", evaluated.merged),
        ("sums-q8_0", evaluated.gguf / "sums-q8_0.gguf"),
    ):
        tokenizer = None if source.is_dir() else adapter
        assert contents[label] == digest(model_files(source, tokenizer=tokenizer))
    assert len(set(contents.values())) == len(contents)


def test_a_screen_of_80_columns_gets_two_tables_and_every_figure(evaluated):
    _, ladder, _ = climbed(evaluated)
    ladder["settings"] |= {"k": 16, "temperature": 1.0}
    drawn = {"mean": 0.104, "low": 0.089, "high": 0.121}
    for rung in ladder["rungs"]:
        assert rung["sampled"] == {}  # nothing was drawn
        rung["sampled"] = dict.fromkeys(("strict_accuracy", "maj_at_k", "pass_at_k"), drawn)
    out = io.StringIO()
    show(ladder, Console(file=out, width=80, force_terminal=True, no_color=True))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()
    assert max(map(cell_len, lines)) <= 80
    shown = "\n".join(lines)
    assert "…" not in shown
    assert "sampled: 16 replies an item at T 1, seed 0; 95% intervals" in shown
    assert {"greedy", "maj@16", "pass@16"} <= set(shown.split())
    assert shown.count("10.4%") == 3 * len(ladder["rungs"])
    for rung in ladder["rungs"]:
        for figure in cells(rung).values():
            assert figure in shown


@pytest.mark.parametrize(
    ("label", "right", "prompts", "reason"),
    [
        pytest.param("sums-q4_k_m", 38, {}, "4.0% below merged, more than the 2.0%", id="quant"),
        pytest.param("merged", 30, {}, "merged: 20.0% below tuned", id="merge-lost-the-adapter"),
        pytest.param(
            "sums-q8_0", 40, {"passed": False}, "not token-identical to training", id="prompts"
        ),
    ],
)
def test_a_drop_fails_the_gate(evaluated, label, right, prompts, reason):
    put(evaluated, label, right, **prompts)
    passed, ladder, shown = climbed(evaluated)
    assert not passed
    assert {rung["label"]: rung["passed"] for rung in ladder["rungs"]}[label] is False
    assert reason in shown


def test_two_engines_in_one_ladder_are_told(evaluated):
    for label, engine in (("tuned", "graph"), ("merged", "generate")):
        place = evaluated.eval / f"{label}.json"
        content = read_sealed(place)
        content["engines"] = {"asked": "auto", "answered": [engine], "why": ["?"]}
        content["backend"], content["model"]["model_dtype"] = "hf", "torch.bfloat16"
        write_sealed(place, content)
    _, ladder, shown = climbed(evaluated)
    assert "tuned by graph, merged by generate" in shown
    assert [rung["engines"] for rung in ladder["rungs"]] == [
        *(None, ["graph"], ["generate"]),
        *(None, None),
    ]


def test_the_tolerance_decides(evaluated):
    assert not climbed(evaluated, 0.01)[0]
    assert climbed(evaluated, 0.05)[0]


def test_a_gguf_without_a_merged_model_is_held_against_the_adapter(evaluated):
    shutil.rmtree(evaluated.merged)
    _, ladder, _ = climbed(evaluated)
    assert [rung["against"] for rung in ladder["rungs"]] == [None, None, "tuned", "tuned"]


@pytest.mark.parametrize(
    ("file", "label"),
    [
        pytest.param("gguf/sums-q4_k_m.gguf", "sums-q4_k_m", id="a-gguf"),
        pytest.param("merged/model.safetensors", "merged", id="merged-weights"),
    ],
)
def test_the_result_of_a_model_that_changed_since_is_not_taken(evaluated, file, label):
    path = evaluated.root / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # in the middle of the file, which keeps its size
    path.write_bytes(content)
    found = rf"{label}\.json is the result .*\(another model\)|{label} has changed since"
    with pytest.raises(UserError, match=found):
        climbed(evaluated)
    assert not evaluated.ladder.exists()


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_changed_adapter_is_named_before_any_model_is_asked(evaluated, file):
    (evaluated.eval / "base.json").unlink()
    (evaluated.eval / "tuned.json").unlink()
    (evaluated.adapter / file).write_bytes(b"half a file")
    with pytest.raises(UserError, match=r"adapter is damaged or was changed"):
        climbed(evaluated)
    assert not evaluated.ladder.exists()


def test_a_run_that_was_moved_keeps_its_results(evaluated, tmp_path):
    moved = RunFolder(tmp_path / "elsewhere" / "sums")
    shutil.copytree(evaluated.root, moved.root)
    assert climbed(moved)[0]


@pytest.mark.parametrize(
    ("settings", "differing"),
    [
        pytest.param(EvaluationSettings(max_new_tokens=3), "max_new_tokens", id="reply-limit"),
        pytest.param(EvaluationSettings(chat_template=False), "chat_template", id="template"),
    ],
)
def test_results_of_other_settings_are_not_taken(evaluated, settings, differing):
    with pytest.raises(UserError, match=rf"base\.json .*\(another {differing}\)"):
        climbed(evaluated, settings=settings)


def test_results_on_other_items_are_not_taken(evaluated, tmp_path):
    items = tmp_path / "other.jsonl"
    items.write_text('{"question": "q", "answer": "#### 1"}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"\(another data\)"):
        climbed(evaluated, settings=EvaluationSettings(data=items))


def test_without_an_export_no_gate_is_passed(evaluated):
    shutil.rmtree(evaluated.merged)
    shutil.rmtree(evaluated.gguf)
    _, ladder, shown = climbed(evaluated)
    assert ladder["passed"] is None
    assert "there is no export to hold to the gate" in shown
    assert "passed" not in shown


@pytest.mark.parametrize("tolerance", [-0.1, 1.0, 2.0])
def test_a_tolerance_that_is_no_share_is_refused(evaluated, tolerance):
    with pytest.raises(UserError, match="--tolerance: expected a share"):
        climbed(evaluated, tolerance)


def test_the_report_shows_results_and_ladder(evaluated):
    from xmlgrpo_viewer.page.report import render
    from xmlgrpo_viewer.reading.run_view import read_run

    climbed(evaluated)
    rows = re.findall(r"<tr>.*sums-q4_k_m.*</tr>", render(read_run(evaluated)))
    result, rung = ([*re.findall(r"<td[^>]*>([^<]*)</td>", row)] for row in rows)
    interval = "78.0% [64.8%, 87.2%]"
    accuracy = "strict accuracy (form and number)"
    assert result == ["t", "50", accuracy, interval, "2 of 2", "not compared"]
    assert rung[:2] == ["pass", interval]


@pytest.mark.slow
@pytest.mark.gguf
def test_an_exported_run_climbs_its_ladder(tiny, tmp_path, capsys):
    run = RunFolder(tmp_path / "sums")
    shutil.copytree(tiny.run.root, run.root, ignore=shutil.ignore_patterns("eval"))
    script = Path(sys.executable).with_name("xmlgrpo-export")
    words: list[str | Path] = ["gguf", "--run", run.root, "--quants", "f32", "q8_0"]
    done = subprocess.run([script, *words], capture_output=True, text=True, check=False)
    assert len(list(run.gguf.glob("*.gguf"))) == 2, f"{done.stdout}\n{done.stderr}"
    assert command("ladder", "--run", run.root, "--tolerance", "0.1") == 0
    ladder = json.loads(run.ladder.read_text())
    accuracy = {rung["label"]: rung["accuracy"]["hits"] for rung in ladder["rungs"]}
    assert len(accuracy) == 5
    assert accuracy["base"] == ITEMS
    merged = [hits for label, hits in accuracy.items() if label not in ("base", "sums-q8_0")]
    assert len(set(merged)) == 1, "adapter, merged model and f32 file answer alike"
    assert all(rung["prompts_as_in_training"] for rung in ladder["rungs"])
    assert "the gate is passed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "patience_s", "ended", "exitcode"),
    [
        pytest.param("ready.set()", (60, 60), KeyboardInterrupt, 0, id="it-was-just-finished"),
        pytest.param(
            "ready.set(); time.sleep(600)",
            (0.1, 60),
            SystemExit,
            1,
            id="it-is-told-and-says-what-is-kept",
        ),
        pytest.param(
            "signal.signal(signal.SIGINT, signal.SIG_DFL); ready.set(); time.sleep(600)",
            (0.1, 60),
            KeyboardInterrupt,  # the ladder says what is kept
            -signal.SIGINT,
            id="it-ends-without-a-word-as-while-python-ends",
        ),
        pytest.param(
            "signal.signal(signal.SIGINT, signal.SIG_IGN); ready.set(); time.sleep(600)",
            (0.1, 0.1),
            KeyboardInterrupt,  # the ladder says what is kept
            -signal.SIGKILL,
            id="it-hears-no-signal",
        ),
    ],
)
def test_ctrl_c_ends_the_ladder_however_the_model_s_process_ends(
    monkeypatch, code, patience_s, ended, exitcode
):
    for name, seconds in zip(("OWN_END_S", "NATIVE_END_S"), patience_s, strict=True):
        monkeypatch.setattr(ladder_module, name, seconds)
    context = get_context("spawn")
    ready = context.Event()
    process = context.Process(target=exec, args=(f"import signal, time; {code}", {"ready": ready}))
    process.start()
    assert ready.wait(60)
    join = process.join

    def ctrl_c():
        monkeypatch.setattr(process, "join", join)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(process, "join", ctrl_c)
    with pytest.raises(ended) as stopped:
        exit_code(process)
    assert ended is KeyboardInterrupt or stopped.value.code == 128 + signal.SIGINT
    assert process.exitcode == exitcode
