"""A tiny base for any task with generated rows, with a stand-in that asks which word comes next."""

import random
from itertools import islice
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from xmlgrpo_rewards import reply
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import Example, get_task
from xmlgrpo_trainer.config.run_config import DataConfig, HoldoutConfig, RunConfig
from xmlgrpo_trainer.problems.split import load_problems
from xmlgrpo_trainer.tiny.build import digest as default_digest
from xmlgrpo_trainer.tiny.settings import TinySettings
from xmlgrpo_trainer.tiny.task.build import Recipe, ensure_task_model
from xmlgrpo_trainer.tiny.task.replies import READ, REMEMBERED, Kind, kinds, replies, written
from xmlgrpo_trainer.tiny.task.rows import run_problems, warm_problems

WORDS = ("red", "green", "blue", "grey", "pink", "black", "white", "brown", "ñandú")
SMALL = TinySettings(
    hidden_size=32, layers=1, heads=2, kv_heads=1, head_dim=16, mlp_size=48, warm_steps=20,
    warm_batch=8, vocab_size=512,
)  # fmt: skip


class NextWord:
    """Which word comes after another one in a list."""

    name = "next_word"
    levels = ("easy",)

    def generated(self, count: int, seed: int, level: str = "easy"):
        rng = random.Random(seed)  # noqa: S311 - no secret depends on it
        seen: set[tuple[str, ...]] = set()
        while len(seen) < count:
            words = rng.sample(WORDS, rng.randint(3, len(WORDS)))
            place = rng.randrange(len(words) - 1)
            row = (", ".join(words), words[place], words[place + 1])
            if row not in seen:
                seen.add(row)
                yield {"list": row[0], "word": row[1], "next": row[2]}

    def example(self, row: dict[str, Any], row_id: str) -> Example:
        question = f"{row['list']}\nWhat comes after {row['word']}?"
        return Example(row_id, question, row["next"], f"It stands after {row['word']}.")

    def messages(self, question: str) -> list[dict[str, str]]:
        return reply.messages(question)


TASK: Any = NextWord()
NEXT_WORDS = NextWord.generated


@pytest.mark.parametrize(
    ("seed", "name"),
    [(0, "f2767ae8442d"), (1, "e76ba8a3271c"), (2, "e90adf44cb5a")],
)
def test_the_base_of_the_embedded_default_is_what_its_results_are_about(seed, name):
    """docs/results.md has the counts of each seed; another base has other ones."""
    assert default_digest(TinySettings(), seed) == name


def questions(problems: list[Example]) -> set[str]:
    return {problem.question for problem in problems}


def test_no_run_shares_a_question_with_any_warm_start():
    warm = [questions(warm_problems(TASK, None, seed, 300)) for seed in (0, 1)]
    run = [questions(run_problems(TASK, None, seed, 200)) for seed in (0, 1)]
    assert {len(part) for part in warm} == {300}
    assert {len(part) for part in run} == {200}
    assert not (warm[0] | warm[1]) & (run[0] | run[1])
    assert run[0] != run[1]


def test_a_run_is_on_the_tasks_own_rows():
    sizes = HoldoutConfig(report_rows=20, validation_rows=10)
    data = DataConfig(source="generated", generated_rows=50, level="easy")
    made = load_problems(RunConfig(data=data, holdout=sizes), TASK)
    assert [len(part) for part in (made.report, made.validation, made.train)] == [20, 10, 50]
    assert made.report + made.validation + made.train == run_problems(TASK, "easy", 0, 80)


def test_a_task_that_makes_too_few_problems_is_named(monkeypatch):
    monkeypatch.setattr(
        NextWord, "generated", lambda self, count, seed: islice(NEXT_WORDS(self, 9, seed), count)
    )
    with pytest.raises(UserError, match=r"'next_word' makes \d different problems for a run"):
        run_problems(TASK, None, 0, 100)


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (TASK, "the task 'next_word' has the levels easy, got 'hard'"),
        (get_task("gsm8k"), "the task 'gsm8k' has no levels, got 'hard'"),
    ],
)
def test_a_level_that_a_task_has_not_is_refused(task, says):
    with pytest.raises(UserError, match=says):
        load_problems(RunConfig(data=DataConfig(source="generated", level="hard")), task)


PROBLEM = Example("1", "red, blue\nWhat comes after red?", "blue", "It stands after red.")
OTHER = Example("2", "pink, grey\nWhat comes after pink?", "grey", "It stands after pink.")


@pytest.mark.parametrize(
    ("read", "tagged", "expected"),
    [
        (True, True, reply.render("It stands after red.", "blue")),
        (True, False, "It stands after red.\nblue"),
        (False, True, reply.render(REMEMBERED, "grey")),
        (False, False, "grey"),
    ],
)
def test_four_kinds_of_reply(read, tagged, expected):
    assert written(PROBLEM, OTHER, Kind(read, tagged)) == expected


def test_a_task_without_solutions_has_replies_in_the_form_too():
    bare = Example("1", PROBLEM.question, "blue", "")
    assert reply.parse(written(bare, OTHER, Kind(read=True, tagged=True))).strict
    assert written(bare, OTHER, Kind(read=True, tagged=False)) == f"{READ}\nblue"


def test_remembering_is_the_last_habit_where_a_problem_is_long():
    settings = TinySettings(warm_steps=250, warm_batch=16)
    problems = warm_problems(TASK, None, 0, 4000)
    drawn = list(zip(problems, kinds(problems, settings, 0), strict=True))
    middle = sorted(len(problem.question) for problem in problems)[len(problems) // 2]
    last = drawn[-800:]
    parts = (
        drawn[:-800],
        [one for one in last if len(one[0].question) < middle],
        [one for one in last if len(one[0].question) >= middle],
    )
    shares = [sum(kind.read for _, kind in part) / len(part) for part in parts]
    assert shares == pytest.approx([0.9, 0.9, 0.3], abs=0.05)
    assert sum(kind.tagged for _, kind in drawn) / len(drawn) == pytest.approx(0.4, abs=0.05)


def test_the_base_is_built_once_complete_and_named_by_all_that_it_is_made_of(tmp_path):
    told: list[Any] = []

    def build() -> Any:
        recipe = Recipe(TASK, None, SMALL, 0)
        return ensure_task_model(tmp_path, recipe, lambda *progress: told.append(progress))

    folder = build()
    assert folder.name.startswith("tiny-next_word-")
    assert told[-1][:2] == (20, 20)
    count = len(told)
    assert build() == folder
    assert len(told) == count
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in (replies([PROBLEM, OTHER], SMALL, 0)[0], "völlig anders: 你好 {}[]\t$"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    assert len(tokenizer(reply.TAGS[0], add_special_tokens=False)["input_ids"]) == 1
    assert AutoModelForCausalLM.from_pretrained(folder).config.vocab_size == len(tokenizer)
    for other in (Recipe(TASK, "easy", SMALL, 0), Recipe(TASK, None, SMALL, 1)):
        assert ensure_task_model(tmp_path, other) != folder
