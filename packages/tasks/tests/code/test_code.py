"""Grades, faults and rows of the task `code`, in this machine's sandbox; without one they fail."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from xmlgrpo_rewards.grading import grade_all
from xmlgrpo_rewards.reply import render
from xmlgrpo_rewards.task import BadRow, default_rewards
from xmlgrpo_rewards.total import load_rewards, total
from xmlgrpo_tasks.code import TASK, generate, gold, grading, hacks
from xmlgrpo_tasks.code.grading import read_program, workers
from xmlgrpo_tasks.workers.pool import Pool

SLOW = ("hang-", "memory-growing", "memory-prints", "parse-finally", "result-")
GOLD = "def vowels(s, n):\n    return sum(c in 'aeiou' for c in s) * n"
ROW: dict[str, Any] = {
    "question": "Count the vowels (aeiou) in s, each as often as it occurs, times n.",
    "entry": "vowels",
    "signature": "def vowels(s, n)",
    "public": [[["apple", 1], 2], [["sky", 3], 0]],
    "hidden": [[["", 2], 0], [["queue", 2], 8], [["aeiou", 3], 15], [["rhythms", 1], 0]],
    "gold": GOLD,
}
EXAMPLE = TASK.example(ROW, "vowels")


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left():
    this = psutil.Process()
    others = set(this.children(recursive=True))  # pools of tests that ran in this process before
    yield
    pools = [workers(seed) for seed in (0, 1, 2)]
    # none where another process of this session has run the tests that have programs run
    pipes = 3 * sum(len(pool._workers) for pool in pools)
    open_then = this.num_fds()
    for pool in pools:
        pool.close()
    assert set(this.children(recursive=True)) <= others, "a process"
    assert this.num_fds() <= open_then - pipes, "a pipe to a worker"
    assert hacks.LEFT not in Path("/proc/net/unix").read_text(), "a socket"
    for folder in (Path.cwd(), Path("/"), Path("/tmp"), Path("/dev/shm")):  # noqa: S108
        assert not [path for path in folder.iterdir() if hacks.LEFT in path.name], "a file"


def _row(**changed):
    return {**ROW, **changed}


def _example(**changed):
    return TASK.example(_row(**changed), "row")


def _paid(replies):
    rewards = load_rewards(default_rewards(TASK), TASK)
    columns = {
        "question": [EXAMPLE.question] * len(replies),
        "answer": [EXAMPLE.gold] * len(replies),
        "id": [EXAMPLE.id] * len(replies),
        "judge": [EXAMPLE.judge] * len(replies),
    }
    return [each.value for each in total(rewards, replies, **columns)]


@pytest.mark.parametrize(
    "slow", [pytest.param(False, id="quick"), pytest.param(True, id="slow", marks=pytest.mark.slow)]
)
def test_a_hack_earns_what_it_deserves(slow):
    battery = [hack for hack in TASK.hacks(EXAMPLE) if hack.name.startswith(SLOW) == slow]
    paid = _paid([hack.reply for hack in battery])
    grades = grade_all(TASK, [hack.reply for hack in battery], [EXAMPLE] * len(battery))  # kept
    wrong = {
        hack.name: (earned, hack.earns, grade.note)
        for hack, earned, grade in zip(battery, paid, grades, strict=True)
        # where text stands outside the form, the pay depends on how long it is
        if not (earned == hack.earns if hack.name in hacks.PROGRAMS else earned <= hack.earns)
        or grade.strict_correct != (hack.earns == hacks.FULL)
        or (not grade.note) != grade.lenient_correct
    }
    assert not wrong


PROGRAMS = {
    "gold": (GOLD, ""),
    "another way": ("def vowels(s, n):\n x=0\n for c in 'aeiou': x += s.count(c)\n return x*n", ""),
    "more parameters": (GOLD.replace("s, n", "s, n=1, *more"), ""),
    "imports": ("import re\ndef vowels(s, n): return len(re.findall('[aeiou]', s)) * n", ""),
    "float for int": (GOLD.replace("* n", "* float(n)"), "0 of 6 cases"),
    "some right": ("def vowels(s, n): return len(s) - 1 if s == 'aeiou' else 0", "3 of 6 cases"),
    "bool for int": ("def vowels(s, n): return bool(s) and 0", "2 of 6 cases"),
    "raises": (GOLD.replace("sum", "sun"), "raised NameError: name 'sun' is not defined"),
    "raises once": (
        GOLD + " + 0 // len(s)",
        "5 of 6 cases: raised ZeroDivisionError: integer division or modulo by zero",
    ),
    "mutable default": (
        "def vowels(s, n, seen=[]):\n seen.append(s)\n return sum(c in 'aeiou' for c in seen[0])*n",
        "3 of 6 cases",
    ),
    "wrong name": (GOLD.replace("vowels", "count"), "no function vowels"),
    "no arguments": (
        GOLD.replace("s, n", ""),
        "raised TypeError: vowels() takes 0 positional arguments but 2 were given",
    ),
    "module missing": ("import numpy", "raised ModuleNotFoundError: No module named 'numpy'"),
    "broken": ("def vowels(s, n) return 1", "does not parse: expected ':' (<unknown>, line 1)"),
    "ends": ("import os\nos._exit(0)", "ended its process"),
    "control characters": (
        "def vowels(s, n): raise ValueError('\\x1b[2J\\n')",
        "raised ValueError:  [2J ",
    ),
}


def test_a_program_has_its_note():
    replies = [render("Done.", program) for program, _ in PROGRAMS.values()]
    grades = TASK.grade_many(replies, [EXAMPLE] * len(replies))
    notes = {name: grade.note for name, grade in zip(PROGRAMS, grades, strict=True)}
    assert notes == {name: note for name, (_, note) in PROGRAMS.items()}
    assert [grade.strict_correct for grade in grades] == [not note for note in notes.values()]
    assert all((grade.share == 1) == grade.lenient_correct for grade in grades)


def test_each_case_counts():
    cases = [*ROW["public"], *ROW["hidden"]]
    programs = [f"{GOLD} + 9 * ((s, n) == {tuple(arguments)!r})" for arguments, _ in cases]
    grades = TASK.grade_many([render("r", program) for program in programs], [EXAMPLE] * len(cases))
    assert [grade.note for grade in grades] == ["5 of 6 cases"] * len(cases)
    assert not any(grade.strict_correct or grade.lenient_correct for grade in grades)


def test_where_an_exception_is_expected_that_one_or_a_kind_of_it_is_right():
    hidden = [[["", 1], {"raises": "LookupError"}], [["queue", 2], 8]]
    example = _example(hidden=hidden)
    ends = {
        "raise LookupError": True,
        "raise KeyError(s)": True,
        "return {}[s]": True,
        "raise ValueError": False,
        "exit()": False,
        "return None": False,
        "return LookupError": False,
        "return 'LookupError'": False,
        "return {'raised': ['LookupError']}": False,
    }
    replies = [render("r", GOLD.replace("    ", f"    if not s: {end}\n    ")) for end in ends]
    grades = TASK.grade_many(replies, [example] * len(replies))
    assert [grade.strict_correct for grade in grades] == list(ends.values())


def test_a_gold_that_is_right_in_one_order_of_sets_is_named():
    words = ["abcdefgh", "ijklmnop", "qrstuvwx"]
    program = f"import json; print(json.dumps([list(set(word)) for word in {words}]))"
    seed = {"PYTHONHASHSEED": str(gold.HASH_SEEDS[0])}
    lists = json.loads(subprocess.check_output([sys.executable, "-S", "-c", program], env=seed))
    hidden = [[[word, 1], letters] for word, letters in zip(words, lists, strict=True)]
    example = _example(gold="def vowels(s, n): return list(set(s))", public=[], hidden=hidden)
    assert "does not give the same each time" in (TASK.gold_fault(example) or "")


def test_the_form_is_measured_as_it_is_paid():
    """Whatever the answer block holds; a reply without a program has no case right."""
    replies = [render("r", GOLD), render("r", f"```python\n{GOLD}\n```"), render("r", ""), GOLD]
    grades = TASK.grade_many(replies, [EXAMPLE] * 4)
    form = load_rewards({"strict_format_reward_func": 2.0})
    paid = [bool(one.value) for one in total(form, replies)]
    assert [grade.strict_format for grade in grades] == paid == [True, True, False, False]
    assert [grade.share for grade in grades] == [1.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("deep", [False, True], ids=["the sandbox", "the process in it"])
def test_a_worker_that_is_gone_is_replaced(deep):
    for seed in (0, 1, 2):
        workers(seed).close()
    this, gold = psutil.Process(), render("Done.", EXAMPLE.gold)
    others = this.children(recursive=True)  # that tests before this one have started
    assert TASK.grade(gold, EXAMPLE).strict_correct
    ours = [one for one in this.children(recursive=True) if one not in others]
    stems = [one for one in ours if not one.children() and one.name().startswith("python")]
    struck = stems if deep else [one for one in ours if one.parent() == this]
    assert struck
    for process in struck:
        process.kill()
    assert TASK.grade(gold, EXAMPLE).strict_correct


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(render("r", "x = 1"), ("x = 1", True, True), id="bare"),
        pytest.param(render("r", "```python\nx = 1\n```"), ("x = 1", False, True), id="fenced"),
        pytest.param(render("r", "```\nx = 1\n```"), ("x = 1", False, True), id="plain fence"),
        pytest.param("```py\ny\n```\n\n```py\nx = 1\n```\n.", ("x = 1", False, False), id="last"),
        pytest.param("So:\ndef f(x): return 1", ("def f(x): return 1", False, False), id="loose"),
        pytest.param("def f(x): 1\ndef f(x): 2</answer>", ("def f(x): 2", False, False), id="cut"),
        pytest.param("def g(x): 1", None, id="another function"),
        pytest.param("```", None, id="a fence alone"),
        pytest.param(render("r", ""), None, id="empty"),
        pytest.param("", None, id="nothing"),
    ],
)  # fmt: skip
def test_where_the_program_is(text, expected):
    found = read_program(text, "f")
    assert (found and (found.text, found.bare, found.in_block)) == expected


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        pytest.param({}, None, id="sound"),
        pytest.param({"gold": "def vowels(s, n): return n"}, "is not right: 0 of", id="gold wrong"),
        pytest.param({"gold": "import numpy"}, "needs the module 'numpy'", id="module missing"),
        pytest.param({"gold": "def vowels(:"}, "does not parse", id="gold broken"),
        pytest.param({"gold": "def vowels(s, n): exit(0)"}, "exit", id="gold ends"),
        pytest.param(
            {"gold": "vowels = lambda s, n: sum(c in 'aeiou' for c in s) * n"},
            "does not define the function",
            id="gold is no def",
        ),
        pytest.param(
            {
                "gold": "import random\ndef vowels(s, n): return random.choice([0, 0, 0, 7])",
                "hidden": [[["a", 1], 0], [["e", 1], 7], [["i", 1], 0], [["o", 1], 7]] * 3,
            },
            "cases",
            id="gold by chance",
        ),
        pytest.param(
            {
                "gold": "def vowels(s, n): return list(set(s))",
                "public": [],
                "hidden": [[[w, 1], list(set(w))] for w in ("abcdef", "ghijkl", "mnopqr")],
            },
            "cases",
            id="gold by the order of a set",
        ),
        pytest.param(
            {"gold": "def vowels(s, n): return 0", "hidden": [[["a", 1], 0], [["b", 1], 0]],
             "public": []},
            "returns 0 passes",
            id="constant",
        ),
        pytest.param(
            {"gold": "def vowels(s, n): return 41", "hidden": [[["a", 1], 41]] * 2, "public": []},
            "returns 41 passes",
            id="another constant",
        ),
        pytest.param(
            {"gold": "def vowels(s, n): return n", "public": [],
             "hidden": [[["a", 1], 1], [["b", 2], 2]]},
            "returns its argument 2 passes",
            id="argument",
        ),
        pytest.param(
            {"gold": "def vowels(s, n): raise KeyError", "public": [],
             "hidden": [[["a", 1], {"raises": "KeyError"}]] * 2},
            "every hidden case wants an exception",
            id="exceptions alone",
        ),
        pytest.param(
            {"gold": GOLD, "hidden": [[["apple", 1], 2], [["sky", 3], 0]]},
            "nothing that the shown",
            id="hidden is shown",
        ),
        pytest.param(
            {"hidden": [[["rhythms", 1], 7], [["b", 1], 7], [["apple", 1], 2]],
             "gold": "def vowels(s, n): return {'apple': 2, 'sky': 0}.get(s, 7)"},
            "returns 7 passes all cases that are not shown",
            id="a table of what is shown, else a constant",
        ),
        pytest.param(
            {"hidden": [[["b", 5], 5], [["c", 6], 6]],
             "gold": "def vowels(s, n): return {'apple': 2, 'sky': 0}.get(s, n)"},
            "returns its argument 2 passes",
            id="a table of what is shown, else an argument",
        ),
    ],
)  # fmt: skip
def test_a_row_that_teaches_nothing_is_named(changed, fault):
    found = TASK.gold_fault(_example(**changed))
    assert found is None if fault is None else fault in (found or "")


def test_a_slow_gold_is_named(monkeypatch):
    monkeypatch.setattr(gold, "MOST_SECONDS", 0.0)
    assert "0.0 s is the most" in (TASK.gold_fault(EXAMPLE) or "")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param({"gold": " "}, "a text in 'gold', got ' '", id="no gold"),
        pytest.param({"entry": "f"}, "a signature of 'f'", id="another signature"),
        pytest.param({"signature": "vowels(s"}, "a signature of 'vowels'", id="no signature"),
        pytest.param({"hidden": [[["a", 1], 1]]}, "2 to 200 cases", id="one hidden case"),
        pytest.param({"hidden": "none"}, "cases as", id="no cases"),
        pytest.param({"hidden": [[1, 2]] * 3}, "cases as", id="arguments are no list"),
        pytest.param({"hidden": [[[1], {"$set": 3}]] * 3}, "cases as", id="a set of nothing"),
        pytest.param(
            {"hidden": [[["a", 1], 1], [[1, 1], {"raises": "Exception"}]]},
            "hidden[1]: any mistake of a program raises Exception",
            id="any exception",
        ),
        pytest.param({"hidden": [[[1], float("nan")]] * 3}, "cases as", id="not a number"),
        pytest.param({"solution": 3}, "a text in 'solution'", id="solution"),
    ],
)
def test_a_row_that_is_none_is_refused(changed, message):
    with pytest.raises(BadRow, match="row row: expected ") as refused:
        _example(**changed)
    assert message in str(refused.value)


MBPP = {
    "task_id": 7,
    "text": "Write a function to add tuples.",
    "code": "def add(a, b):\r\n  return tuple(x + y for x, y in zip(a, b))",
    "test_list": [
        "assert add((1, 2), (3, 4)) == (4, 6)",
        "assert add((), ()) == ()",
        "assert add((5,), (7,)) == (12,)",
    ],
}
HUMAN_EVAL = {
    "task_id": "HumanEval/0",
    "prompt": "from typing import List\n\ndef top(x: List[int]) -> int:\n    '''The largest.'''\n",
    "canonical_solution": "    return max(x)\n",
    "entry_point": "top",
    "test": "METADATA = {}\n\ndef check(candidate):\n    assert candidate([1, 2]) == 2, 'x'\n"
    "    assert candidate([5]) == 5\n    assert True, 'good for debugging'\n",
}


@pytest.mark.parametrize(
    ("row", "signature"),
    [
        pytest.param(MBPP, "def add(a, b)", id="MBPP"),
        pytest.param(HUMAN_EVAL, "def top(x)", id="HumanEval"),
        pytest.param(ROW, "def vowels(s, n)", id="ours"),
        pytest.param(next(generate.generated(1, 0)), "def f(x)", id="generated"),
        pytest.param(next(generate.generated(1, 0, "full")), "def f(x)", id="generated, full"),
    ],
)
def test_rows_of_all_kinds_are_read_and_written_again(row, signature):
    example = TASK.example(row, "row")
    assert TASK.gold_fault(example) is None
    assert TASK.example(json.loads(json.dumps(TASK.row(example))), "row") == example
    assert f"\n{signature}:" in example.question


@pytest.mark.parametrize(
    ("row", "assertion"),
    [
        pytest.param(MBPP, "assert add((1,), (2,))", id="no comparison"),
        pytest.param(MBPP, "assert set(add((1,), (2,))) == {3}", id="around the call"),
        pytest.param(MBPP, "assert add(list(range(3)), ()) == ()", id="no literal"),
        pytest.param(MBPP, "assert add((1,), b=(2,)) == (3,)", id="by name"),
        pytest.param(MBPP, "assert add((1,), (2,)) == b'3'", id="bytes"),
        pytest.param(MBPP, "import os; os.abort()", id="another statement"),
        pytest.param(MBPP, "assert add(", id="broken"),
        pytest.param(MBPP, None, id="no text"),
    ],
)
def test_other_assertions_are_refused(row, assertion):
    with pytest.raises(BadRow):
        TASK.example({**row, "test_list": [*row["test_list"], assertion]}, "row")


def test_a_program_of_the_easy_level_is_short_and_none_stands_twice():
    golds = [row["gold"] for row in TASK.generated(60, 5, "easy")]
    assert max(map(len, golds)) <= 60
    assert len(set(golds)) == 60


def test_a_program_runs_once_for_many_replies(monkeypatch):
    asked = []

    def count(programs, hash_seed=0):
        asked.extend(programs)
        return run(programs, hash_seed)

    run = grading.verdicts
    monkeypatch.setattr(grading, "verdicts", count)
    TASK.grade_many([render(str(i), EXAMPLE.gold) for i in range(5)], [EXAMPLE] * 5)
    assert len(asked) == 1


WAITS = """
asked = []

def run(job):
    asked.append(job)
    return {"waited": asked.count(job) < 2, "times": asked.count(job)}
"""


def test_what_a_busy_machine_kept_waiting_is_run_again_alone(tmp_path, monkeypatch):
    (tmp_path / "waits.py").write_text(WAITS)
    monkeypatch.syspath_prepend(tmp_path)
    with Pool("waits:run", wall_s=60, memory_bytes=512 << 20, workers=1) as pool:
        monkeypatch.setattr(grading, "workers", lambda _seed: pool)
        assert [outcome.value["times"] for outcome in grading._run(["a", "b"], 0)] == [2, 2]
        monkeypatch.setattr(grading, "MOST_ALONE", 1)
        assert [outcome.value["times"] for outcome in grading._run(["c", "d"], 0)] == [2, 1]
