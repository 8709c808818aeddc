"""The Makefile, run for real over stand-ins for the console scripts.

A stand-in prints the words it was given and the question in its environment, so these tests see
what arrives after make and the shell have had their turn.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "xmlgrpo-train",
    "xmlgrpo-ask",
    "xmlgrpo-plan",
    "xmlgrpo-doctor",
    "xmlgrpo-eval",
    "xmlgrpo-report",
    "xmlgrpo-watch",
    "xmlgrpo-compare",
    "xmlgrpo-rescore",
    "xmlgrpo-export",
    "xmlgrpo-validate",
    "xmlgrpo-rows",
    "xmlgrpo-new-task",
    "nox",
    "python",
)
STAND_IN = f"""#!{sys.executable} -S
import json, os, sys
from pathlib import Path
print(json.dumps([Path(sys.argv[0]).name, *sys.argv[1:]]), "Q=" + json.dumps(os.environ.get("Q")))
if "xmlgrpo-train" in sys.argv[0]:
    run = Path(sys.argv[sys.argv.index("--run") + 1])
    run.mkdir(parents=True)
    (run / "manifest.json").write_text("{{}}")
if os.environ.get("FAIL") == Path(sys.argv[0]).name:
    sys.exit(3)
"""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A checkout with the Makefile, a finished set-up, and stand-ins for every command."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for folder in ("requirements", "setup"):
        (tmp_path / "ci" / folder).mkdir(parents=True)
    for lock in ("base", "dev", "gguf"):
        (tmp_path / "ci" / "requirements" / f"{lock}.txt").touch()
    bin_ = tmp_path / ".venv" / "bin"
    bin_.mkdir(parents=True)
    for command in COMMANDS:
        (bin_ / command).write_text(STAND_IN, encoding="utf-8")
        (bin_ / command).chmod(0o755)
    for script in ("setup.sh", "gguf_setup.sh"):
        (tmp_path / "ci" / "setup" / script).write_text(f'#!/bin/bash\necho "ran {script}"\n')
        (tmp_path / "ci" / "setup" / script).chmod(0o755)
    (tmp_path / ".venv" / ".stamp").touch()
    return tmp_path


def make(house: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run make in `house`, without what an outer make hands down in the environment."""
    own = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        ["make", *words],
        cwd=house,
        env={**own, "LC_ALL": "C.UTF-8", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def ran(result: subprocess.CompletedProcess[str]) -> list[list[str]]:
    """The commands that ran, each as the list of words it received."""
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    lines = [line for line in result.stdout.splitlines() if line.startswith("[")]
    return [json.JSONDecoder().raw_decode(line)[0] for line in lines]


def finish(house: Path, run: str) -> None:
    """Leave what training leaves last."""
    (house / run).mkdir(parents=True)
    (house / run / "manifest.json").write_text("{}")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(
            "train",
            "xmlgrpo-train --config configs/tiny.yaml --run outputs/tiny",
            id="default",
        ),
        pytest.param(
            "train CONFIG=configs/gemma3-1b.yaml",
            "xmlgrpo-train --config configs/gemma3-1b.yaml --run outputs/gemma3-1b",
            id="run-takes-the-config's-name",
        ),
        pytest.param(
            "train RUN=mine SEED=3",
            "xmlgrpo-train --config configs/tiny.yaml --run outputs/mine --seed 3",
            id="run-by-name-and-seed",
        ),
        pytest.param(
            "train RUN=../elsewhere/mine/",
            "xmlgrpo-train --config configs/tiny.yaml --run ../elsewhere/mine",
            id="run-by-folder",
        ),
        pytest.param(
            "train ARGS='a.rate=1e-5 lora.target_modules=[q_proj,v_proj] b=*'",
            "xmlgrpo-train --config configs/tiny.yaml --run outputs/tiny"
            " a.rate=1e-5 lora.target_modules=[q_proj,v_proj] b=*",
            id="overrides-keep-brackets-and-stars",
        ),
        pytest.param(
            """train RUN="it's" """,
            """xmlgrpo-train --config configs/tiny.yaml --run "outputs/it's" """,
            id="quote-in-the-run's-name",
        ),
        pytest.param(
            "plan GPU='RTX 4090' CONFIG=configs/a.yaml",
            "xmlgrpo-plan --config configs/a.yaml --gpu 'RTX 4090'",
            id="gpu-with-a-space",
        ),
        pytest.param(
            "plan GPU=L4 GPUS=2",
            "xmlgrpo-plan --config configs/tiny.yaml --gpu L4 --gpus 2",
            id="plan-for-several-gpus",
        ),
        pytest.param(
            "demo-controls SEED=1",
            "python -m xmlgrpo_trainer.controls --config configs/tiny.yaml --seed 1",
            id="controls",
        ),
        pytest.param(
            "passrate ARGS=--samples=8",
            "python -m xmlgrpo_trainer.passrate --config configs/tiny.yaml --samples=8",
            id="passrate",
        ),
        pytest.param("bench", "nox -s bench --", id="bench"),
        pytest.param(
            "bench WHAT=rewards ARGS=--texts", "nox -s bench -- rewards --texts", id="bench-of-one"
        ),
        pytest.param(
            "eval MODEL=org/name TASK=sql",
            "xmlgrpo-eval run --model org/name --task sql_xml",
            id="eval-a-model-on-another-task",
        ),
        pytest.param(
            "ask MODEL=org/name TASK=sql", "xmlgrpo-ask --model org/name --task sql", id="ask-sql"
        ),
        pytest.param("doctor", "xmlgrpo-doctor", id="doctor-of-the-machine"),
        pytest.param(
            "new-task NAME=weekday ARGS=--package=w",
            "xmlgrpo-new-task weekday --package=w",
            id="new-task",
        ),
        pytest.param(
            "rows TASK=sql DATA=d SEED=3 ARGS=--test=9",
            "xmlgrpo-rows sql d --seed 3 --test=9",
            id="rows",
        ),
        pytest.param("doctor RUN=mine", "xmlgrpo-doctor --run outputs/mine", id="doctor-of-a-run"),
        pytest.param(
            "validate GSM8K_DIR=/data/gsm8k",
            "xmlgrpo-validate gsm8k /data/gsm8k",
            id="validate-real-rows",
        ),
        pytest.param(
            "validate TASK=capitals DATA=data/capitals GSM8K_DIR=/data/gsm8k",
            "xmlgrpo-validate capitals data/capitals",
            id="validate-another-task",
        ),
        pytest.param(
            "validate TASK=json_qa JSON_QA_DIR=/rows",
            "xmlgrpo-validate json_qa /rows",
            id="validate-what-the-environment-names",
        ),
        pytest.param("validate TASK=sql", "xmlgrpo-validate sql", id="validate-what-a-task-makes"),
        pytest.param(
            "validate ARGS=a.jsonl", "xmlgrpo-validate gsm8k a.jsonl", id="validate-a-file"
        ),
        pytest.param(
            "eval RUN=mine LIMIT=50 SEED=1 K=8 TEMPERATURE=0.7",
            "xmlgrpo-eval run --run outputs/mine --limit 50 --seed 1 --k 8 --temperature 0.7",
            id="eval-of-a-run",
        ),
        pytest.param(
            "eval MODEL=google/gemma-3-1b-it",
            "xmlgrpo-eval run --model google/gemma-3-1b-it",
            id="eval-of-any-model",
        ),
        pytest.param("ladder RUN=mine", "xmlgrpo-eval ladder --run outputs/mine", id="ladder"),
        pytest.param("report RUN=mine", "xmlgrpo-report --run outputs/mine", id="report"),
        pytest.param("watch RUN=mine", "xmlgrpo-watch --run outputs/mine", id="watch"),
        pytest.param("compare RUNS='a b/c'", "xmlgrpo-compare --runs a b/c", id="compare"),
        pytest.param(
            "rescore RUN=mine REWARDS='a=1 m:f=0.5'",
            "xmlgrpo-rescore --run outputs/mine --rewards a=1 m:f=0.5",
            id="rescore",
        ),
        pytest.param("merge RUN=mine", "xmlgrpo-export merge --run outputs/mine", id="merge"),
        pytest.param(
            "gguf RUN=mine QUANTS='f16 q4_k_m'",
            "xmlgrpo-export gguf --run outputs/mine --quants f16 q4_k_m",
            id="gguf",
        ),
        pytest.param(
            "gguf MODEL=/models/a QUANTS=q8_0",
            "xmlgrpo-export gguf --model /models/a --quants q8_0",
            id="gguf-of-any-model",
        ),
        pytest.param(
            "push RUN=mine REPO=me/mine",
            "xmlgrpo-export push --run outputs/mine --repo me/mine",
            id="push-is-private",
        ),
        pytest.param(
            "push RUN=mine REPO=me/mine WHAT='adapter gguf' REVISION=v1 DRY_RUN=1 PUBLIC=1",
            "xmlgrpo-export push --run outputs/mine --repo me/mine"
            " --what adapter gguf --revision v1 --dry-run --public",
            id="push-with-everything",
        ),
        pytest.param(
            "push RUN=mine REPO=me/mine DRY_RUN=0 PUBLIC=no",
            "xmlgrpo-export push --run outputs/mine --repo me/mine",
            id="a-switch-set-to-0-or-no-is-off",
        ),
        pytest.param("test ARGS='-k reply -x'", "nox -- -k reply -x", id="test"),
        pytest.param("lint", "nox -s lint types imports", id="lint"),
        pytest.param("pictures", "python -m ci.remake.pictures", id="pictures"),
        pytest.param(
            "learn DATA=/data/gsm8k ARGS=--small",
            "python -m recipes.gsm8k.learn base screen arms test --base s2"
            " --arms grpo-0 random-0 rejection --steps 200 --last --cut --call-s 3600"
            " --gsm8k /data/gsm8k --out outputs/gsm8k/learn.json --small",
            id="learn",
        ),
    ],
)
def test_target_runs_one_command_with_these_words(house: Path, words: str, expected: str) -> None:
    assert ran(make(house, *shlex.split(words))) == [shlex.split(expected)]


@pytest.mark.parametrize(
    "question",
    [
        pytest.param("3个苹果共9元，7个苹果多少钱？", id="chinese"),
        pytest.param('it\'s "5" apples', id="both-quotes"),
        pytest.param("a pen costs $5, two cost $$10, ${HOME} $(HOME)?", id="dollars"),
        pytest.param("`date`; rm -r $(pwd) # 7 < 8 & 9 > 8 | x", id="shell"),
        pytest.param("first line\n\tsecond line\n", id="line-breaks"),
        pytest.param("-3 + 5 = ? \\ % * [a-z] ~", id="dash-backslash-percent-star"),
    ],
)
def test_question_arrives_as_it_was_typed(house: Path, question: str) -> None:
    finish(house, "outputs/tiny")
    for given in (make(house, "ask", f"Q={question}"), make(house, "ask", Q=question)):
        assert ran(given) == [["xmlgrpo-ask", "--run", "outputs/tiny", "--question-env", "Q"]]
        assert json.loads(given.stdout.partition(" Q=")[2]) == question


def test_without_a_question_they_are_typed(house: Path) -> None:
    finish(house, "outputs/tiny")
    assert ran(make(house, "ask")) == [["xmlgrpo-ask", "--run", "outputs/tiny"]]


def test_gpus_start_one_process_each(house: Path) -> None:
    (words,) = ran(make(house, "train", "GPUS=4"))
    train = "xmlgrpo-train --config configs/tiny.yaml --run outputs/tiny"
    assert words == [*train.split(), "--gpus", "4"]


def test_what_gpus_cannot_be_is_the_commands_to_say(house: Path) -> None:
    (words,) = ran(make(house, "train", "GPUS=0"))
    assert words[-2:] == ["--gpus", "0"]


@pytest.mark.parametrize("stage", ["eval", "ladder", "report", "merge", "gguf"])
def test_stage_trains_its_config_first_and_once(house: Path, stage: str) -> None:
    first = ran(make(house, stage))
    second = ran(make(house, stage))
    assert first[0][0] == "xmlgrpo-train"
    assert first[1:] == second


def test_stage_of_a_named_run_does_not_train_one(house: Path) -> None:
    told = make(house, "gguf", "RUN=typo")
    assert [words[0] for words in ran(told)] == ["xmlgrpo-export"]
    assert "gguf_setup.sh" not in told.stdout, "minutes, before it is said that there is no run"


def test_seeds_differ_in_nothing_else_and_are_compared(house: Path) -> None:
    train = ["xmlgrpo-train", "--config", "configs/tiny.yaml", "--run"]
    assert ran(make(house, "seeds", "RUN=mine", "N=2", "ARGS=grpo.beta=0.1")) == [
        [*train, "outputs/mine-seed0", "--seed", "0", "data.seed=0", "grpo.beta=0.1"],
        [*train, "outputs/mine-seed1", "--seed", "1", "data.seed=0", "grpo.beta=0.1"],
        ["xmlgrpo-compare", "--runs", "outputs/mine-seed0", "outputs/mine-seed1"],
    ]


def test_failed_training_stops_the_stage(house: Path) -> None:
    result = make(house, "eval", FAIL="xmlgrpo-train")
    assert result.returncode != 0
    assert "xmlgrpo-eval" not in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["push"], "REPO=owner/name", id="push-without-repo"),
        pytest.param(["push", "REPO= "], "REPO=owner/name", id="push-with-blank-repo"),
        pytest.param(["validate"], "DATA=folder", id="validate-without-data"),
        pytest.param(["new-task"], "NAME=weekday", id="new-task-without-a-name"),
        pytest.param(["rows", "TASK=sql"], "DATA=folder", id="rows-to-nowhere"),
        pytest.param(["train", "RUN=.."], "RUN must name a run", id="run-is-the-parent-folder"),
        pytest.param(["train", "RUN=my run"], "RUN must be one word", id="run-with-a-space"),
        pytest.param(["train", "RUN="], "RUN must be one word", id="run-empty"),
        pytest.param(["train", "CONFIG=a b.yaml"], "CONFIG must be one word", id="config-space"),
    ],
)
def test_bad_input_stops_before_anything_runs(house: Path, words: list[str], message: str) -> None:
    (house / ".venv" / ".stamp").unlink()  # not even the set-up may start
    for result in (make(house, *words), make(house, "-n", *words)):
        assert result.returncode == 2
        assert message in result.stderr
        assert result.stdout == ""


def test_llama_cpp_is_set_up_where_a_gguf_is_touched(house: Path) -> None:
    finish(house, "outputs/tiny")
    assert "ran gguf_setup.sh" not in make(house, "eval").stdout
    assert "ran gguf_setup.sh" not in make(house, "ladder").stdout
    (house / "outputs/tiny/gguf").mkdir()
    (house / "outputs/tiny/gguf/tiny-q8_0.gguf").touch()
    a_file, a_folder = ["ask", "MODEL=a b.gguf", "Q=1?"], ["gguf", "MODEL=./a model"]
    on_the_hub = ["eval", "MODEL=google/gemma/a.gguf"]
    for words in (a_file, a_folder, ["gguf", "MODEL=a"]):
        assert "ran gguf_setup.sh" not in make(house, *words).stdout  # there is none
    (house / "a b.gguf").touch()
    (house / "a model").mkdir()
    named = (["ladder"], ["gguf"], ["eval", "MODEL=a b.gguf"], a_file, a_folder, on_the_hub)
    for words in named:
        (house / ".venv" / ".gguf-stamp").unlink(missing_ok=True)
        assert "ran gguf_setup.sh" in make(house, *words).stdout
        assert "ran gguf_setup.sh" not in make(house, *words).stdout


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        pytest.param("ci/requirements/base.txt", True, id="lock"),
        pytest.param("ci/requirements/newest.txt", True, id="other-lock"),
        pytest.param("ci/requirements/dev.txt", True, id="tools-lock"),
        pytest.param("packages/rewards/pyproject.toml", True, id="package"),
        pytest.param("ci/requirements/gguf.txt", False, id="optional-lock"),
        pytest.param("configs/tiny.yaml", False, id="config"),
    ],
)
def test_set_up_is_repeated_only_for_a_new_lock_or_package(
    house: Path, changed: str, again: bool
) -> None:
    path = house / changed
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    later = (house / ".venv" / ".stamp").stat().st_mtime + 10
    os.utime(path, (later, later))
    assert ("ran setup.sh" in make(house, "plan").stdout) == again


def test_help_lists_every_target(house: Path) -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {t for line in re.findall(r"^\.PHONY: (.*)$", text, re.M) for t in line.split()}
    shown = make(house)  # help is the default
    assert shown.returncode == 0
    assert shown.stderr == ""
    assert (
        set(re.findall(r"^  ([a-z-]+) +\S", shown.stdout.partition("CONFIG=")[0], re.M)) == targets
    )


def test_clean_keeps_what_took_long(house: Path) -> None:
    finish(house, "outputs/tiny")
    (house / ".cache" / "wheels").mkdir(parents=True)
    assert make(house, "clean").returncode == 0
    assert (house / "outputs/tiny/manifest.json").exists()
    assert (house / ".cache/wheels").exists()
    assert not (house / ".venv").exists()


@pytest.mark.parametrize("python", ["no-such-python", "false"])
def test_set_up_without_a_suitable_python_is_one_message(tmp_path: Path, python: str) -> None:
    shutil.copytree(ROOT / "ci", tmp_path / "ci")
    result = subprocess.run(
        ["bash", "ci/setup/setup.sh"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert re.fullmatch(rf"error: Python 3\.11.*tried: {python}\..*\n", result.stderr)
    assert not (tmp_path / ".venv").exists()


def named_later(folder: Path, noted: str, **named: str) -> subprocess.CompletedProcess[str]:
    """`make setup` with another choice than the one that is noted in a whole .venv."""
    shutil.copytree(ROOT / "ci", folder / "ci")
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    (folder / ".venv" / "pyvenv.cfg").write_text(noted)
    return subprocess.run(
        ["bash", "ci/setup/setup.sh", "--check"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **named},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("set_up_with", [None, "", "https://whl.example/cu128"])
def test_another_index_for_torch_is_not_passed_over(
    tmp_path: Path, set_up_with: str | None
) -> None:
    named, noted = "https://whl.example/cu128", ""
    if set_up_with is not None:
        summed = subprocess.check_output(["cksum"], input=f"{set_up_with}\n", text=True)
        noted = f"torch-index = {summed}"
    result = named_later(tmp_path, noted, TORCH_INDEX=named)
    assert result.stdout == ""
    if set_up_with == named:
        assert (result.returncode, result.stderr) == (0, "")
    else:
        assert result.returncode == 1
        assert result.stderr.startswith("error: .venv was set up without this TORCH_INDEX")


@pytest.mark.parametrize(
    ("noted", "named", "told"),
    [
        pytest.param("", "base", "", id="the-default-by-name"),
        pytest.param("lock = newest", "newest", "", id="the-same"),
        pytest.param("lock = newest", "base", "set up with LOCK=newest", id="back"),
        pytest.param("", "newest", "set up with LOCK=base", id="older-set-up"),
        pytest.param("", "unsloth", "LOCK: expected base or newest, got unsloth", id="no-such"),
    ],
)
def test_another_lock_is_not_passed_over(tmp_path: Path, noted: str, named: str, told: str) -> None:
    result = named_later(tmp_path, noted, LOCK=named)
    assert result.returncode == (1 if told else 0)
    assert told in result.stderr
    assert bool(told) == bool(result.stderr)


def test_a_named_index_is_looked_at_though_the_set_up_is_done(house: Path) -> None:
    assert "ran setup.sh" not in make(house, "plan").stdout
    assert "ran setup.sh" in make(house, "plan", TORCH_INDEX="https://whl.example/cu128").stdout
