"""The doctor: its verdicts on runs of known health, and what it says of a machine."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.metrics import MetricsLog
from xmlgrpo_trainer.config.run_config import ROWS, check_config
from xmlgrpo_trainer.doctor import command as doctor_command
from xmlgrpo_trainer.doctor import machine
from xmlgrpo_trainer.doctor.finding import Finding
from xmlgrpo_trainer.doctor.run import THRESHOLDS, LiveCheck, check_run
from xmlgrpo_trainer.grpo.lost_batches import DISCARDED

STEPS = 60
AtStep = Callable[[int], Any]

HEALTHY: dict[str, AtStep] = {
    "reward": lambda step: 0.5 + step / 30,
    "rewards/correctness_reward_func/mean": lambda step: step / 60,
    "rewards/int_reward_func/mean": lambda step: 0.1 + step / 200,
    "frac_reward_zero_std": lambda step: 0.2,
    "completions/clipped_ratio": lambda step: 0.05,
    "entropy": lambda step: 0.5 - step / 200,
    "grad_norm": lambda step: 0.2 + step % 3 / 10,
    "kl": lambda step: step / 100,
    "sampled/strict_format": lambda step: min(1.0, step / 20),
    "sampled/lenient": lambda step: 0.2 + step / 100,
}
VALIDATED: dict[int, float] = {0: 0.1, 20: 0.3, 40: 0.45, 60: 0.5}


def log_of(
    changes: dict[str, AtStep] | None = None,
    validated: dict[int, float] | None = None,
    steps: int = STEPS,
) -> MetricsLog:
    made = {**HEALTHY, **(changes or {})}
    rows: dict[int, dict[str, Any]] = {
        step: {"step": step, **{name: at(step) for name, at in made.items()}}
        for step in range(1, steps + 1)
    }
    for step, accuracy in (VALIDATED if validated is None else validated).items():
        shares = {"validation/strict_accuracy": accuracy, "validation/lenient_accuracy": accuracy}
        rows.setdefault(step, {"step": step}).update(shares)
    return MetricsLog({step: rows[step] for step in sorted(rows)}, ())


def troubles(log: MetricsLog) -> dict[str, Finding]:
    return {f.what: f for f in check_run(log) if f.level in ("bad", "warning")}


def test_a_healthy_run_has_no_trouble() -> None:
    assert troubles(log_of()) == {}
    assert {f.what for f in check_run(log_of()) if f.level == "ok"} == {
        "reward",
        "signal",
        "length",
        "entropy",
        "held-out",
        "gradient",
        "correctness",
        "kl",
    }


SICK = [
    pytest.param({"reward": lambda s: 0.0}, None, "reward", "bad", "0 at every one", id="dead"),
    pytest.param(
        {"rewards/correctness_reward_func/mean": lambda s: 0.0},
        None,
        "reward",
        "warning",
        "correctness_reward_func paid nothing in 60 steps",
        id="dead-correctness",
    ),
    pytest.param(
        {"frac_reward_zero_std": lambda s: 0.9}, None, "signal", "bad", "90% of", id="zero-std"
    ),
    pytest.param(
        {"completions/clipped_ratio": lambda s: 1.0}, None, "length", "bad", "100% of", id="all-cut"
    ),
    pytest.param(
        {"completions/clipped_ratio": lambda s: 0.5},
        None,
        "length",
        "warning",
        "50% of",
        id="half-cut",
    ),
    pytest.param(
        {"entropy": lambda s: 0.4 if s < 20 else 0.001},
        None,
        "entropy",
        "bad",
        "entropy 0.001 nats",
        id="entropy-collapse",
    ),
    pytest.param(
        {},
        {0: 0.1, 20: 0.45, 40: 0.3, 60: 0.2},
        "held-out",
        "bad",
        "45.0% at step 20, 20.0% now",
        id="gamed",
    ),
    pytest.param(
        {"reward": lambda s: 2.0 - s / 60},
        {0: 0.4, 20: 0.3, 40: 0.2},
        "held-out",
        "warning",
        "40.0% at step 0, 20.0% now",
        id="getting-worse",
    ),
    pytest.param(
        {"grad_norm": lambda s: None if s == 50 else 0.2},
        None,
        "gradient",
        "bad",
        "not a finite number at step 50",
        id="gradient-lost",
    ),
    pytest.param(
        {"grad_norm": lambda s: float("nan") if s > 58 else 0.2},
        None,
        "gradient",
        "bad",
        "at step 59 and 1 more",
        id="gradient-nan",
    ),
    pytest.param(
        {"grad_norm": lambda s: 40.0 if s == 9 else 0.2},
        None,
        "gradient",
        "warning",
        "at most 40 (step 9)",
        id="gradient-large",
    ),
    pytest.param(
        {"grad_norm": lambda s: 5.0 if s == 9 else 0.1},
        None,
        "gradient",
        "warning",
        "50 times the median",
        id="gradient-spike",
    ),
    pytest.param(
        {"sampled/lenient": lambda s: 0.2},
        None,
        "correctness",
        "warning",
        "right answers went from 20.0% to 20.0%",
        id="form-without-sense",
    ),
    pytest.param({"kl": lambda s: s / 10}, None, "kl", "warning", "nats from the", id="kl"),
    pytest.param(
        {"sampled/loops": lambda s: s / 100}, None, "loops", "bad", "say the same words", id="loops"
    ),
    pytest.param(
        {"sampled/same_wrong": lambda s: 0.5},
        None,
        "answers",
        "warning",
        "in 50% of the groups all replies give the same wrong answer",
        id="one-wrong-answer-a-group",
    ),
    pytest.param(
        {"sampled/false_sums": lambda s: 0.4},
        None,
        "sums",
        "warning",
        "40% of the right replies have a sum that is false",
        id="right-by-false-sums",
    ),
    pytest.param(
        {"sampled/worked": lambda s: 0.9 if s < 30 else 0.1},
        None,
        "working",
        "bad",
        "from 90% to 10%",
        id="no-more-working",
    ),
    pytest.param(
        {"sampled/strict": lambda s: 0.2, "entropy": lambda s: 0.5 if s < 30 else 0.2},
        None,
        "entropy",
        "warning",
        "from 0.5 to 0.2 nats per token",
        id="surer-and-no-better",
    ),
    pytest.param(
        {
            "sampled/strict": lambda s: 0.2,
            "completions/mean_length": lambda s: 90 if s < 30 else 30,
        },
        None,
        "length",
        "warning",
        "replies went from 90 to 30 tokens",
        id="shorter-and-no-better",
    ),
    pytest.param(
        {"sampled/strict": lambda s: 0.3 if s < 30 else 0.1, "sampled/replies": lambda s: 64},
        None,
        "correctness",
        "bad",
        "from 30.0% of the sampled ones to 10.0%",
        id="unlearning",
    ),
    pytest.param(
        {},
        {0: 0.3, 10: 0.29, 20: 0.28, 30: 0.27, 40: 0.265, 60: 0.262},
        "held-out",
        "bad",
        "has fallen 5 times in a row, 30.0% at step 0 to 26.2%",
        id="every-look-lower",
    ),
]


SICK += [
    pytest.param(
        {"draws/mixed_groups": lambda s: 0.1, "draws/taught_tokens": lambda s: 0.08},
        None,
        "signal",
        "bad",
        "90% of the drawn groups are all right or all wrong now, and 8% of the drawn tokens taught",
        id="few-groups-teach",
    ),
    pytest.param(
        {"sampled/one_answer": lambda s: 0.02 if s < 30 else 0.9},
        None,
        "answers",
        "bad",
        "agree in 90.0% of the pairs now, 2.0% at first",
        id="one-answer-to-everything",
    ),
]


@pytest.mark.parametrize(("changes", "validated", "what", "level", "text"), SICK)
def test_each_sickness_is_named_alone(
    changes: dict[str, AtStep],
    validated: dict[int, float] | None,
    what: str,
    level: str,
    text: str,
) -> None:
    found = troubles(log_of(changes, validated))
    assert list(found) == [what]
    assert found[what].level == level
    assert text in found[what].text
    assert found[what].advice


FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


def read_until(name: str, last: int) -> MetricsLog:
    """A true run of tests/fixtures as it was after a step."""
    rows: dict[int, dict[str, Any]] = {}
    with gzip.open(FIXTURES / f"{name}.metrics.jsonl.gz", "rt") as lines:
        for row in map(json.loads, lines):
            if row["step"] <= last:
                rows.setdefault(row["step"], {}).update(row)
    return MetricsLog({step: rows[step] for step in sorted(rows)}, ())


@pytest.mark.parametrize(
    ("name", "last", "what", "level", "text"),
    [
        pytest.param(
            "collapse-lr2e-4",
            50,
            "held-out",
            "bad",
            "was 5.7% at first, and at most 2.7% at the last two looks",
            id="a-rate-ten-times-too-high-after-a-quarter-of-its-steps",
        ),
        pytest.param(
            "collapse-lr2e-4",
            75,
            "entropy",
            "bad",
            "from 0.356 to 0.597 nats per token, and right answers from 2.9% to 1.9%",
            id="entropy-rises-and-nothing-else",
        ),
        pytest.param(
            "lr5e-5", 200, "signal", "warning", "73% of the groups have no spread", id="waste"
        ),
        pytest.param(
            "lr5e-5",
            200,
            "held-out",
            "note",
            "went from 5.2% to 10.6% right, greedy ones to validation problems from 10.5% to 10.2%",
            id="surer-but-no-better",
        ),
        pytest.param(
            "by-heart",
            160,
            "held-out",
            "warning",
            "81% of the replies are right on the problems trained on, 10.1% of those to validation",
            id="learnt-by-heart",
        ),
    ],
)
def test_what_was_wrong_with_true_runs(
    name: str, last: int, what: str, level: str, text: str
) -> None:
    [found] = [one for one in check_run(read_until(name, last)) if one.what == what]
    assert found.level == level
    assert text in found.text
    assert found.advice


ROOT = Path(__file__).resolve().parents[4]
SHIPPED = ["configs/gemma3-270m.yaml", "configs/gemma3-1b.yaml", "recipes/gsm8k/gsm8k.yaml"]


def lost_at(name: str, config: str) -> tuple[int, str] | None:
    """The step at which a configuration would have stopped a true run, and by which row."""
    shipped = yaml.safe_load((ROOT / config).read_text(encoding="utf-8"))
    whole, doctor = read_until(name, 10_000), LiveCheck(shipped["watch"]["stop_when"])
    rows: dict[int, Any] = {}
    for step, row in whole.rows.items():
        rows[step] = row
        if step > 60 and step % 5:
            continue
        if (lost := doctor.look(MetricsLog(rows, ()))[1]) is not None:
            return step, lost.row
    return None


@pytest.mark.parametrize("config", SHIPPED)
def test_a_rate_ten_times_too_high_is_stopped_before_a_quarter_of_its_steps(config: str) -> None:
    last = max(read_until("collapse-lr2e-4", 10_000).rows)
    assert lost_at("collapse-lr2e-4", config) == (47, "right-falling")
    assert last == 200


@pytest.mark.parametrize("name", ["learns", "by-heart", "lr3e-5", "lr5e-5"])
def test_a_true_run_that_is_not_lost_is_not_stopped(name: str) -> None:
    assert lost_at(name, "recipes/gsm8k/gsm8k.yaml") is None


def test_a_finding_is_said_once_and_again_when_it_is_worse() -> None:
    doctor, whole = LiveCheck(), log_of({"sampled/loops": lambda s: s / 100})
    said = []
    for last in range(1, STEPS + 1):
        rows = {step: row for step, row in whole.rows.items() if step <= last}
        said += [(last, one.row, one.level) for one in doctor.look(MetricsLog(rows, ()))[0]]
    assert said == [(20, "loops", "warning"), (40, "loops", "bad")]


def test_one_look_is_enough_where_it_is_sure() -> None:
    log = log_of({"reward": lambda s: 2.0 - s / 60}, {0: 0.2, 60: 0.16})
    assert "held-out" not in troubles(log)
    sure = dict(log.rows)
    flips = {"validation/lost": 15, "validation/gained": 2}
    sure[60] = {**sure[60], "validation/strict_accuracy": 0.1, **flips}
    found = troubles(MetricsLog(sure, ()))["held-out"]
    assert (found.level, found.row) == ("bad", "validation-fallen")
    assert "15 problems lost, 2 gained" in found.text


@pytest.mark.parametrize(
    "flips",
    [
        pytest.param({"validation/lost": 1e17, "validation/gained": 1e16}, id="would-take-years"),
        pytest.param({"validation/lost": -5, "validation/gained": "two"}, id="no-counts"),
    ],
)
def test_numbers_that_no_run_logs_prove_nothing(flips: dict[str, Any]) -> None:
    changes: dict[str, AtStep] = {
        "sampled/strict": lambda s: 3.0 if s < 30 else 0.1,  # a share above 1
        "sampled/replies": lambda s: 0,
    }
    rows = dict(log_of(changes).rows)
    rows[60] = {**rows[60], "validation/strict_accuracy": 0.1, **flips}
    rows_found = {finding.row for finding in check_run(MetricsLog(rows, ()))}
    assert "right-falling" not in rows_found


def test_few_replies_prove_no_fall() -> None:
    changes: dict[str, AtStep] = {
        "sampled/strict": lambda s: 0.06 if s < 30 else 0.03,
        "sampled/replies": lambda s: 16,
    }
    assert troubles(log_of(changes)) == {}


def test_the_configuration_knows_every_row_and_no_other() -> None:
    assert sorted(one.row for one in THRESHOLDS) == sorted(ROWS)
    with pytest.raises(UserError, match=r"no row 'loop'; did you mean 'loops'\?; it has batches-l"):
        check_config({"watch": {"stop_when": ["loop"]}}, "c.yaml")


@pytest.mark.parametrize("last", [40, 79])
def test_a_true_run_that_learns_is_left_alone_at_first(last: int) -> None:
    assert troubles(read_until("by-heart", last)) == {}


def test_solved_problems_are_no_sickness() -> None:
    log = log_of({"frac_reward_zero_std": lambda s: 1.0, "sampled/lenient": lambda s: 1.0})
    assert troubles(log) == {}
    assert any("these are solved" in f.text for f in check_run(log))


@pytest.mark.parametrize(
    ("log", "text"),
    [
        pytest.param(MetricsLog({}, ()), "0 step(s)", id="nothing-logged"),
        pytest.param(log_of(steps=4, validated={}), "4 step(s)", id="four-steps"),
    ],
)
def test_too_little_is_not_judged(log: MetricsLog, text: str) -> None:
    assert troubles(log) == {}
    assert text in [*check_run(log)][-1].text


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        pytest.param({"grad_norm": lambda step: None}, "gradient", id="not-finite"),
        pytest.param({DISCARDED: lambda step: 1.0}, "batches", id="batches-lost"),
    ],
)
def test_what_ended_a_run_in_its_first_steps_is_named(
    changes: dict[str, AtStep], what: str
) -> None:
    assert {
        name: found.level for name, found in troubles(log_of(changes, {}, steps=2)).items()
    } == {what: "bad"}


def test_a_reward_that_has_had_no_time_is_not_dead() -> None:
    assert troubles(log_of({"reward": lambda s: 0.0}, {}, steps=19)) == {}
    assert "reward" in troubles(log_of({"reward": lambda s: 0.0}, {}, steps=20))


def every_fourth_of(at: AtStep) -> AtStep:
    return lambda step: at(step) if step % 4 == 0 else None


def test_missing_and_null_values_are_left_out() -> None:
    every_fourth: dict[str, AtStep] = {
        name: every_fourth_of(at)
        for name, at in HEALTHY.items()
        if name != "grad_norm"  # a null there is a gradient that is not finite
    }
    assert troubles(log_of(every_fourth)) == {}
    only_reward = MetricsLog({s: {"step": s, "reward": 1.0} for s in range(1, 30)}, ())
    assert troubles(only_reward) == {}


def test_a_run_without_validation_is_told_that_gaming_would_not_show() -> None:
    notes = [f for f in check_run(log_of(validated={})) if f.what == "held-out"]
    assert [f.level for f in notes] == ["note"]


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    def command(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["xmlgrpo-doctor", *words])
        code = doctor_command.run()
        return code, capsys.readouterr().out

    return command


def write_run(root: Path, changes: dict[str, AtStep]) -> Path:
    root.mkdir()
    lines = [json.dumps(row) for row in log_of(changes).rows.values()]
    write(root / "metrics.jsonl", *lines, "")
    return root


def test_a_sick_run_fails_the_command_and_says_what_to_do(
    tmp_path: Path, call: Callable[..., tuple[int, str]]
) -> None:
    root = write_run(tmp_path / "run", {"completions/clipped_ratio": lambda s: 1.0})
    code, printed = call("--run", str(root))
    assert code == 1
    assert "raise grpo.max_completion_length" in printed
    assert "axolotl" in printed


def test_the_command_reports_to_machines(
    tmp_path: Path, call: Callable[..., tuple[int, str]]
) -> None:
    root = write_run(tmp_path / "run", {})
    _code, printed = call("--run", str(root), "--json")
    read = json.loads(printed)
    assert {finding["what"] for finding in read["machine"]} >= {"python", "gpu", "disk", "cpu"}
    assert all(finding["level"] != "bad" for finding in read[f"run {root}"])


def test_lines_that_cannot_be_read_are_told() -> None:
    healthy = log_of({})
    [found] = [f for f in check_run(MetricsLog(healthy.rows, (2, 7))) if f.level == "warning"]
    assert (found.what, "cannot be read (2, 7)" in found.text) == ("metrics.jsonl", True)


def test_a_run_that_has_logged_nothing_is_told(
    tmp_path: Path, call: Callable[..., tuple[int, str]]
) -> None:
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(UserError, match=r"metrics\.jsonl.*logged a step"):
        call("--run", str(tmp_path))
    with pytest.raises(UserError, match="no run at"):
        call("--run", str(tmp_path / "none"))


def test_the_token_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, call: Callable[..., tuple[int, str]]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    for words in ([], ["--json"]):
        _code, printed = call(*words)
        assert "there is a token" in printed
        assert "secretsecret" not in printed


LOCK_LINES = (
    "pytest=={pytest} \\",
    "    --hash=sha256:00",
    'nosuchpackage==1.0 ; python_version < "3.0"',
    "torch=={torch}",
    "    # via -r base.in",
)


def lock_finding(folder: Path, **versions: str) -> Finding:
    (folder / "ci/requirements").mkdir(parents=True, exist_ok=True)
    text = "\n".join(LOCK_LINES).format(**versions)
    (folder / machine.LOCK).write_text(text)
    below = folder / "outputs/run"
    below.mkdir(parents=True, exist_ok=True)
    [finding] = machine.lock(below)
    return finding


def test_the_lock_is_compared_with_what_is_installed(tmp_path: Path) -> None:
    from importlib.metadata import version

    torch = version("torch").partition("+")[0]
    in_step = lock_finding(tmp_path, pytest=version("pytest"), torch=torch)
    assert (in_step.level, in_step.text) == ("ok", "all 2 locked versions are installed")
    behind = lock_finding(tmp_path, pytest="0.0.1", torch=torch)
    assert behind.level == "warning"
    assert f"1 of 2 locked packages differ: pytest {version('pytest')} (expected ==0.0.1)" in (
        behind.text
    )
    (tmp_path / machine.NEWEST).write_text(f"pytest=={version('pytest')}\ntorch=={torch}\n")
    assert lock_finding(tmp_path, pytest="0.0.1", torch="0.0.1").level == "ok"  # LOCK=newest


def test_outside_of_a_checkout_there_is_no_lock(tmp_path: Path) -> None:
    [finding] = machine.lock(tmp_path)
    assert finding.level == "note"


def test_more_threads_than_cores_are_told() -> None:
    import torch

    before = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0))
    try:
        torch.set_num_threads(cores + 3)
        [crowded] = machine.threads(Path())
        torch.set_num_threads(1)
        [calm] = machine.threads(Path())
    finally:
        torch.set_num_threads(before)
    assert (crowded.level, calm.level) == ("warning", "ok")
    assert f"OMP_NUM_THREADS={cores}" in crowded.advice


@pytest.mark.parametrize(("free_gib", "level"), [(100.0, "ok"), (3.0, "warning"), (0.2, "bad")])
def test_a_full_disk_is_told(
    free_gib: float, level: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=int(free_gib * 2**30))
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    [finding] = machine.disk(tmp_path / "not" / "there" / "yet")
    assert finding.level == level


def test_a_task_that_needs_what_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Needy:
        def ready(self) -> str:
            raise UserError("it needs a sandbox; install one")

    asked = {"needy": Needy(), "plain": object()}
    monkeypatch.setattr(machine, "task_names", lambda: list(asked))
    monkeypatch.setattr(machine, "get_task", asked.__getitem__)
    assert list(machine.tasks(Path())) == [
        Finding("note", "task needy", "cannot be graded here: it needs a sandbox; install one")
    ]


def test_a_gpu_that_torch_does_not_see_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU that torch sees")
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho 'Tesla T4'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    [finding] = machine.torch_and_gpu(tmp_path)
    assert finding.level == "bad"
    assert "nvidia-smi lists Tesla T4" in finding.text


def test_what_needs_no_torch_is_shown_before_it_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from xmlgrpo_trainer.doctor.machine import check_machine\n"
        "for finding in check_machine(Path(sys.argv[1])):\n"
        "    print(finding.what, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    lines = [line.rsplit(" ", 1) for line in done.stdout.splitlines()]
    assert dict(lines)["disk"] == "False"
    assert [what for what, imported in lines if imported == "True"] == ["gpu", "cpu"]


def test_a_torch_that_does_not_load_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    [finding] = machine.torch_and_gpu(tmp_path)
    assert finding.level == "bad"
    assert "cannot be imported" in finding.text
    assert list(machine.threads(tmp_path)) == []
