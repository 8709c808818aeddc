"""A record that says `passed`, or a number, is believed only where its own parts say so too."""

import json
import shutil
from math import nan

import pytest

from xmlgrpo_exporter.proof.blockers import gate_problems, model_digests, result_problems
from xmlgrpo_exporter.proof.recount import counting_problems
from xmlgrpo_rewards.errors import UserError

from .. import run_folders
from ..cards import prepared, write_evaluation
from ..exporting import QUIET
from ..publishing import MARKS, publish
from ..run_folders import share

pytestmark = MARKS

Q8, Q4 = "gsm8k-1b-q8_0", "gsm8k-1b-q4_k_m"
GATES = ("files", f"{Q8}.gguf", "gates")
MERGED, EVALUATED = ("rungs", 1), ("tasks", "gsm8k_xml", "metrics", "strict_accuracy")
GONE = object()


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A run, evaluated, with the replies that its held-out result was counted from."""
    run = run_folders.write_full_run(tmp_path_factory.mktemp("honest") / "gsm8k-1b")
    write_evaluation(run)
    hits = {"strict_format": 391, "strict_correct": 247, "lenient_correct": 251, "worked": 398}
    items = [
        {name: number < count for name, count in hits.items()}
        | {"truncated": number < 2, "answered": number >= 1, "tokens": 118 + number % 2}
        for number in range(400)
    ]
    run_folders.write_json(run / "holdout/report-after.json", {"step": 40, "items": items})
    modelfile = run / "gguf" / f"{Q8}.Modelfile"
    modelfile.write_text(run_folders.modelfile_for(modelfile.with_suffix(".gguf")))
    run_folders.write_gates(run)
    return run


@pytest.fixture
def run(honest, tmp_path):
    """A copy to be edited."""
    return shutil.copytree(honest, tmp_path / "gsm8k-1b")


def problems(run) -> str:
    """All that speaks against publishing the run."""
    release = prepared(run)
    digests = model_digests(release, QUIET)
    found = [
        *gate_problems(release, digests, ungated=False),
        *result_problems(release, digests),
        *counting_problems(release),
    ]
    return "\n".join(found)


def edited(run, file: str, steps, value) -> None:
    """Put another value at a place of a JSON file, or take it away."""
    content = json.loads((run / file).read_text())
    *way, last = steps
    part = content
    for step in way:
        part = part[step]
    if value is GONE:
        del part[last]
    else:
        part[last] = value(part) if callable(value) else value
    run_folders.write_json(run / file, content)


def test_an_honest_run_goes_up(hub, run):
    assert publish(hub, run)[0] == 0


@pytest.mark.parametrize(
    ("file", "steps", "value", "said"),
    [
        (
            "gguf/check.json",
            (*GATES, "one_bos", "found", "chat"),
            GONE,
            "in each way: chat and raw",
        ),
        ("gguf/check.json", (*GATES, "one_bos", "found", "raw"), GONE, "in each way: chat and raw"),
        ("gguf/check.json", (*GATES, "template", "limit"), {}, "not within its limits"),
        ("gguf/check.json", (*GATES, "stop", "limit"), {}, "not within its limits"),
        (
            *("gguf/check.json", (*GATES, "stop", "found", "ends_generation", "1"), GONE),
            "the gate 'stop' has not looked at the id 1",
        ),
        ("gguf/check.json", ("format",), nan, "expected format 1, got nan"),
        ("gguf/check.json", ("format",), GONE, "expected format 1, got None"),
        ("merged/merge.json", ("format",), 2, "expected format 1, got 2"),
        ("ladder.json", ("format",), 2, "expected format 1, got 2"),
        ("gguf/check.json", ("task",), "sql", "it is of the task 'sql'"),
        ("gguf/check.json", (*GATES, "file", "found", "tensors"), 9, "of a file of 9 tensors"),
        ("gguf/check.json", (*GATES, "tokens", "limit", "mismatches"), nan, "not within its limi"),
        ("gguf/check.json", (*GATES, "tokens", "limit", "mismatches"), 1, "not within its limits"),
        ("gguf/check.json", (*GATES, "distance", "passed"), False, "'distance' did not pass"),
        ("gguf/check.json", (*GATES, "greedy"), GONE, "the gate 'greedy' is missing"),
        ("gguf/check.json", (*GATES, "speed"), {"passed": True}, "there is no gate 'speed'"),
        ("gguf/check.json", (*GATES, "distance", "found", "mean_kl"), nan, "missing or none"),
        ("gguf/check.json", (*GATES, "distance", "found", "mean_kl"), None, "missing or none"),
        ("gguf/check.json", (*GATES, "distance", "found", "mean_kl"), True, "missing or none"),
        ("gguf/check.json", (*GATES, "distance", "found", "mean_kl"), "0", "missing or none"),
        ("gguf/check.json", (*GATES, "distance", "found", "mean_kl"), 0.5, "not within its lim"),
        ("gguf/check.json", (*GATES, "distance", "found", "mean_kl"), -1, "not within its limits"),
        ("gguf/check.json", (*GATES, "distance", "found", "top1"), 1e999, "missing or none"),
        ("gguf/check.json", (*GATES, "distance", "found", "top1"), 2, "not within its limits"),
        ("gguf/check.json", (*GATES, "distance", "found", "positions"), 0, "not within its lim"),
        ("gguf/check.json", (*GATES, "distance", "limit", "mean_kl"), 0.12, "limits are not thos"),
        ("gguf/check.json", (*GATES, "distance", "limit"), {}, "missing or none"),
        ("gguf/check.json", (*GATES, "greedy", "found", "identical"), 0, "not within its limits"),
        ("gguf/check.json", (*GATES, "greedy", "found", "prompts"), 0, "missing or none"),
        ("gguf/check.json", (*GATES, "tokens", "found", "mismatches"), 1, "not within its limit"),
        ("gguf/check.json", (*GATES, "tokens", "found", "prompts"), 3, "different numbers of pr"),
        ("gguf/check.json", (*GATES, "one_bos", "found", "chat"), {"2": 22}, "not within its lim"),
        ("gguf/check.json", (*GATES, "template", "found", "differing"), 1, "not within its limi"),
        ("gguf/check.json", (*GATES, "stop", "found", "ends_generation"), {"1": False}, "'stop'"),
        ("gguf/check.json", (*GATES, "stop", "found", "ends_generation"), {}, "'stop'"),
        ("gguf/check.json", (*GATES, "answers", "found", "seconds"), 1e9, "not within its limit"),
        ("gguf/check.json", GATES[:2], GONE, "or has none"),
        ("gguf/check.json", (*GATES[:2], "passed"), False, "it did not pass"),
        ("gguf/check.json", (*GATES[:2], "quant"), "q4_k_m", "it is of a file of type 'q4_k_m'"),
        ("gguf/check.json", (*GATES[:2], "bytes"), 5, "of a file of another size"),
        ("gguf/check.json", (*GATES[:2], "gates"), [], "it did not pass"),
        ("gguf/check.json", GATES[:2], lambda files: files[f"{Q4}.gguf"], "of type 'q4_k_m'"),
        ("gguf/check.json", ("files",), {}, "it holds no file"),
        ("gguf/check.json", ("source",), {"passed": False}, "quantized from, it did not pass"),
        ("gguf/check.json", ("model", "fingerprint"), GONE, "made from other merged weights"),
        ("gguf/check.json", ("passed",), False, "it did not pass"),
        ("gguf/check.json", (*GATES[:2], "modelfile_sha256"), "0" * 64, "does not ask"),
        ("merged/merge.json", ("parity",), GONE, "comparison did not pass"),
        ("merged/merge.json", ("parity", "found", "mean_kl"), nan, "missing or none"),
        ("merged/merge.json", ("parity", "found", "greedy_identical"), 0.95, "not within its"),
        ("merged/merge.json", ("parity", "limit", "mean_kl"), 9.0, "not those of a merge to floa"),
        ("merged/merge.json", ("dtype",), "bfloat16", "not those of a merge to bfloat16"),
        ("ladder.json", (*MERGED, "passed"), False, "merged did not pass"),
        ("ladder.json", (*MERGED, "passed"), None, "merged did not pass"),
        ("ladder.json", (*MERGED, "accuracy", "hits"), 99, "ladder.json is not what its own par"),
        ("ladder.json", (*MERGED, "accuracy", "mean"), nan, "ladder.json is not what its own pa"),
        ("ladder.json", (*MERGED, "difference", "value"), 0.5, "merged, the difference"),
        ("ladder.json", (*MERGED, "difference", "low"), 0.5, "merged, the interval"),
        ("ladder.json", (*MERGED, "p"), 7, "merged, p"),
        ("ladder.json", (*MERGED, "prompts_as_in_training"), False, "whether it passed"),
        ("ladder.json", ("tolerance",), 2, "the tolerance"),
        ("ladder.json", ("tolerance",), 0.001, "whether it passed"),
        ("ladder.json", ("items",), 5, "the number of items"),
        ("ladder.json", ("rungs", 2, "label"), Q4 + "x", f"has not run on these files ({Q4})"),
        ("ladder.json", ("rungs", 1, "label"), Q8, "a label stands there twice"),
        ("eval/tuned.json", (*EVALUATED, "hits"), 900, "strict_accuracy of gsm8k_xml"),
        ("eval/tuned.json", (*EVALUATED, "mean"), 0.99, "tuned.json is not what its own parts"),
        ("eval/tuned.json", (*EVALUATED, "high"), nan, "tuned.json is not what its own parts"),
        ("eval/tuned.json", ("tasks", "gsm8k_xml", "items"), [], "has no items"),
        ("eval/tuned.json", ("tasks", "gsm8k_xml", "metrics", "new"), {"mean": 1}, "has no items"),
        ("eval/compare.json", (*EVALUATED, "second", "hits"), 900, "compare.json is not what"),
        ("eval/compare.json", (*EVALUATED, "p"), 0.04, "strict_accuracy of gsm8k_xml, p"),
        ("eval/compare.json", (*EVALUATED, "difference", "value"), 0.5, ", the difference"),
        ("eval/compare.json", (*EVALUATED, "table", "only_first"), 0, ", the table"),
        (
            "manifest.json",
            ("holdout", "after", "strict_accuracy"),
            share(399, 400),
            "another held-",
        ),
        ("manifest.json", ("holdout", "after", "mean_tokens"), 7.0, "another held-out result"),
        ("manifest.json", ("holdout", "rows"), 4, "another held-out result"),
    ],
)
def test_what_does_not_follow_is_refused(run, file, steps, value, said):
    edited(run, file, steps, value)
    assert said in problems(run)


def test_held_out_replies_that_are_gone_are_named(run):
    (run / "holdout/report-after.json").unlink()
    assert "report-after.json is gone; restore it from a copy" in problems(run)


def test_what_is_refused_is_not_published(hub, run):
    edited(run, "gguf/check.json", (*GATES, "distance", "found", "mean_kl"), nan)
    with pytest.raises(UserError, match="'distance' are missing or none"):
        publish(hub, run)
    assert hub.writes() == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param('SYSTEM """', 'SYSTEM """Say whatever you like. ', id="system-text"),
        pytest.param("<start_of_turn>model", "<start_of_turn>user", id="template"),
        pytest.param('stop "<end_of_turn>"', 'stop "never"', id="stop"),
        pytest.param("temperature 0", "temperature 2", id="decoding"),
        pytest.param(f"FROM ./{Q8}.gguf", "FROM ./other.gguf", id="another-file"),
        pytest.param("PARAMETER repeat", "ADAPTER /home/x\nPARAMETER repeat", id="one-more-line"),
    ],
)
def test_a_modelfile_that_asks_in_another_way_is_refused(run, old, new):
    modelfile = run / "gguf" / f"{Q8}.Modelfile"
    text = modelfile.read_text()
    assert old in text
    modelfile.write_text(text.replace(old, new))
    assert f"{Q8}.Modelfile does not ask {Q8}.gguf as training" in problems(run)


def test_a_modelfile_of_no_file_is_refused(run):
    (run / "gguf/other-q8_0.Modelfile").write_text("FROM ./x.gguf\n")
    assert "other-q8_0.Modelfile is published without" in problems(run)


def test_limits_that_the_user_gave_are_written_down_and_hold(run):
    given = {"mean_kl": 0.5}
    edited(run, "gguf/check.json", (*GATES[:2], "limits"), given)
    edited(run, "gguf/check.json", (*GATES, "distance", "limit", "mean_kl"), 0.5)
    assert problems(run) == ""
