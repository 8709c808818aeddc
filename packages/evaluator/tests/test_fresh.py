"""GSM8K with new numbers: which rows are made, and what two results say together."""

import sys

import pytest

from xmlgrpo_evaluator import cli, fresh
from xmlgrpo_rewards import UserError, get_task
from xmlgrpo_run.rows import read_rows

TEMPLATES = """
from reasoning_gym.utils import name

def made(question, worked, answer):
    metadata = {"answer_cot": f"{worked}\\n#### {answer}", "answer_value": answer}
    return {"question": question, "answer": str(answer), "metadata": metadata}

def generate_0(rng, difficulty):
    a, b = rng.randint(2, 99), rng.randint(2, 99)
    asked = f"{name()} has {a} eggs and finds {b}. How many?"
    return made(asked, f"{a} + {b} = {a + b} eggs", a + b)

def generate_1(rng, difficulty):
    a = rng.randint(2, 99)
    return made(f"Half of {a} eggs?", f"{a} / 2 = {a // 2} eggs", a // 2)

def generate_2(rng, difficulty):
    return made("Always the same?", "2 * 3 = 6", 6)

def generate_3(rng, difficulty):
    return made(f"A third of {rng.random()}?", "It is little.", 0.5)

def generate_32(rng, difficulty):
    return made(f"In need of repair {rng.random()}?", "1 + 1 = 2", 2)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """reasoning-gym as it lies on a disk: its __init__ must not run."""
    site = tmp_path / "site"
    templates = site / "reasoning_gym" / "arithmetic" / "gsm_symbolic"
    templates.mkdir(parents=True)
    (site / "reasoning_gym" / "__init__.py").write_text("raise SystemExit('imported whole')\n")
    (site / "reasoning_gym" / "utils.py").write_text("def name():\n    return 'Mia'\n")
    (templates / "generators_00_49.py").write_text(TEMPLATES)
    about = site / "reasoning_gym-0.1.25.dist-info" / "METADATA"
    about.parent.mkdir()
    about.write_text("Metadata-Version: 2.1\nName: reasoning_gym\nVersion: 0.1.25\n")
    monkeypatch.syspath_prepend(site)
    for name in [name for name in sys.modules if name.partition(".")[0] == "reasoning_gym"]:
        monkeypatch.delitem(sys.modules, name)
    return about


@pytest.mark.usefixtures("package")
def test_rows_are_sound_problems_of_gsm8k_and_nothing_else_is_imported(tmp_path):
    path = fresh.fresh_file(tmp_path / "eval", 40, seed=3)
    assert path.name == "fresh-reasoning-gym-0.1.25-40-seed3.jsonl"
    examples = [get_task("gsm8k").example(row.fields, row.id) for row in read_rows(path)]
    assert len({example.question for example in examples}) == 40
    asked = " ".join(example.question for example in examples)
    assert asked.count("Always the same?") == 1  # no question twice
    assert "Half of" in asked
    halved = [one.question.split()[2] for one in examples if "Half of" in one.question]
    assert all(int(number) % 2 == 0 for number in halved)  # 7 / 2 = 3 is no sum
    assert "third" not in asked  # no whole number
    assert "repair" not in asked
    for example in examples:
        if "finds" in example.question:
            words = example.question.split()
            assert int(words[2]) + int(words[6].rstrip(".")) == int(example.gold)
    assert not any(name.startswith("reasoning_gym") for name in sys.modules)


def test_the_file_is_written_once_and_a_seed_is_another_file(package, tmp_path):
    path = fresh.fresh_file(tmp_path, 9, seed=0)
    before = path.read_bytes()
    other = fresh.fresh_file(tmp_path, 9, seed=1)
    assert other.read_bytes() != before
    assert [row["question"] for row in fresh.fresh_rows(5, 0)] == [
        row.fields["question"] for row in read_rows(path)
    ][:5]
    package.unlink()
    assert fresh.fresh_file(tmp_path, 9, seed=0).read_bytes() == before
    for damaged in (
        before.replace(b'question": "', b'question": "x'),
        before[: len(before) // 2],
        b"[1]\n" * 9,
    ):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="is damaged or was changed; remove it"):
            fresh.fresh_file(tmp_path, 9, seed=0)


def test_another_version_is_refused(package, tmp_path):
    package.write_text(package.read_text().replace("0.1.25", "0.2.0"))
    with pytest.raises(UserError, match=r"made by reasoning-gym 0\.1\.25, got 0\.2\.0; install it"):
        fresh.fresh_file(tmp_path, 9, seed=0)


def compared(value, low, high, mean):
    difference = {"value": value, "low": low, "high": high}
    metric = {"difference": difference, "first": {"mean": mean - value}, "second": {"mean": mean}}
    return {"tasks": {"t": {"judged_by": "accuracy", "metrics": {"accuracy": metric}}}}


WITH_SAMPLES = {"tasks": compared(0.3, 0.2, 0.4, 0.5)["tasks"] | {"t_k": {}}}
GAIN, NO_GAIN = compared(0.3, 0.2, 0.4, 0.5), compared(0.01, -0.1, 0.12, 0.2)
LOSS = compared(-0.3, -0.4, -0.2, 0.1)


@pytest.mark.parametrize(
    ("on_fresh", "on_known", "start", "part"),
    [
        pytest.param(GAIN, GAIN, "learned: ", "on the usual items +30.0%", id="learned"),
        pytest.param(NO_GAIN, GAIN, "not shown to have learned: ", "may be memory", id="memory"),
        pytest.param(NO_GAIN, NO_GAIN, "not shown to have learned: ", "items +1.0%", id="neither"),
        pytest.param(LOSS, GAIN, "not learned: ", "may be memory", id="worse"),
        pytest.param(GAIN, None, "learned: ", "is not known", id="fresh-alone"),
        pytest.param(WITH_SAMPLES, GAIN, "learned: ", "items +30.0%", id="with-sampled-replies"),
    ],
)
def test_what_two_results_say(on_fresh, on_known, start, part):
    said = fresh.told(on_fresh, on_known)
    assert said.startswith(start)
    assert part in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["--fresh", "--data", "."], "leave --data and --task out", id="data"),
        pytest.param(["--fresh", "--task", "x"], "leave --data and --task out", id="task"),
        pytest.param(["--fresh", "0"], "expected a whole number above 0, got 0", id="none"),
    ],
)
def test_what_does_not_go_with_fresh(words, message):
    with pytest.raises(UserError, match=message):
        cli.run(["run", "--model", "m", *words])
