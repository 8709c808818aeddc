import copy
import io
import json
import re
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from xmlgrpo_evaluator.results.compare import compare_results, show, table_rows, verdict
from xmlgrpo_evaluator.results.result import items_of, read_result
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import write_sealed
from xmlgrpo_run.measures.summary import metrics_of, summarize


def result(label: str, right: list[bool], **subject: Any) -> dict[str, Any]:
    items = [
        {
            "id": f"i{n}",
            "question": f"[red]q{n}[/]",
            "gold": "5",
            "replies": ["[bold]five[/]\x1b[31m"],
            "scores": {"strict_accuracy": float(ok), "reply_tokens": 10.0 + n},
        }
        for n, ok in enumerate(right)
    ]
    return {
        "format": 1,
        "label": label,
        "subject": {"limit": None, "seed": 0, **subject},
        "prompts": {"passed": True, "digest": "d", "compared": 2, "identical": 2},
        "batch_check": None,
        "tasks": {"t": {"metrics": metrics_of(items), "items": items}},
    }


def test_flips_and_table_agree():
    compared = compare_results(
        result("base", [True, False, False, True]), result("tuned", [True, True, True, False])
    )["tasks"]["t"]
    row = compared["metrics"]["strict_accuracy"]
    assert [flip["id"] for flip in compared["gained"]] == ["i1", "i2"]
    assert [flip["id"] for flip in compared["lost"]] == ["i3"]
    assert row["table"] == {"both": 1, "only_first": 1, "only_second": 2, "neither": 0}
    assert row["difference"]["value"] == pytest.approx(0.25)
    assert row["p"] == 1.0


def test_difficulty_stands_below_the_metrics_and_of_several_replies_nothing_flips():
    first, second = result("base", [True, False] * 4), result("tuned", [True] * 8)
    for one, share in ((first, 0.25), (second, 0.5)):
        for n, item in enumerate(one["tasks"]["t"]["items"]):
            item["steps"] = 1 + 4 * (n > 1) + 4 * (n > 5)
        items = [
            {**item, "scores": {"strict_accuracy": share}} for item in one["tasks"]["t"]["items"]
        ]
        one["tasks"]["t_k"] = {"metrics": metrics_of(items), "items": items}
    compared = compare_results(first, second)["tasks"]
    shown = [row[:2] + row[3:] for row in table_rows(compared["t"])[-3:]]
    assert [row[0] for row in shown] == ["of 1 step (2)", "of 5 steps (4)", "of 7+ steps (2)"]
    assert compared["t"]["by_steps"]["5"]["strict_accuracy"]["table"]["only_second"] == 2
    assert len(compared["t"]["gained"]) == 4
    sampled = compared["t_k"]
    assert sampled["metrics"]["strict_accuracy"]["difference"]["value"] == 0.25
    assert (sampled["gained"], sampled["lost"]) == ([], [])


def test_problems_that_are_alike_in_length_have_no_difficulty():
    first, second = result("base", [True] * 4), result("tuned", [True] * 4)
    assert compare_results(first, second)["tasks"]["t"]["by_steps"] == {}


def test_other_items_are_refused():
    with pytest.raises(UserError, match=r"not of the same items \(2 and 3\)"):
        compare_results(result("a", [True] * 2), result("b", [True] * 3))
    other = result("b", [True] * 2)
    other["tasks"]["t"]["items"][1]["question"] = "another"
    with pytest.raises(UserError, match="not of the same items"):
        compare_results(result("a", [True] * 2), other)


def test_results_without_a_common_task_are_refused():
    other = result("b", [True])
    other["tasks"] = {"u": other["tasks"]["t"]}
    with pytest.raises(UserError, match="no task in common: t and u"):
        compare_results(result("a", [True]), other)


def test_a_comparison_records_the_problems_and_settings_that_both_have():
    data = {"source": "hub", "name": "openai/gsm8k", "rows": 1}
    first, second = result("a", [True], limit=1), result("b", [True], limit=1)
    first["tasks"]["t"]["data"] = data
    assert compare_results(first, second)["tasks"]["t"]["data"] is None
    second["tasks"]["t"]["data"] = dict(data)
    assert compare_results(first, second)["tasks"]["t"]["data"] == data
    second["subject"]["seed"] = 1
    settings = compare_results(first, second)["settings"]
    assert settings["limit"] == 1
    assert "seed" not in settings


def prompts_differ(other):
    other["prompts"]["digest"] = "e"


def prompts_not_of_training(other):
    other["prompts"]["passed"] = False


def graded_before(other):
    other["subject"]["format_version"] = 2


def another_seed(other):
    other["subject"]["seed"] = 1


@pytest.mark.parametrize(
    ("change", "caution"),
    [
        pytest.param(prompts_differ, "not equal token for token", id="prompts"),
        pytest.param(
            prompts_not_of_training, "the prompts of b are not those of training", id="training"
        ),
        pytest.param(another_seed, "with another seed", id="settings"),
        pytest.param(graded_before, "version of the reply form, None and 2, which", id="grader"),
    ],
)
def test_what_is_less_than_comparable_is_said(change, caution):
    first, second = result("a", [True]), result("b", [True])
    assert compare_results(first, second)["cautions"] == []
    change(second)
    [said] = compare_results(first, second)["cautions"]
    assert caution in said


@pytest.mark.parametrize("labels", [("base", "tuned"), ("google--gemma-3-1b-it", "sums-q4_k_m")])
def test_a_screen_of_80_columns_gets_every_difference_whole(labels):
    first, second = (result(label, [n % 2 == 0 for n in range(500)]) for label in labels)
    compared = compare_results(first, second)
    for task in compared["tasks"].values():
        for metric in task["metrics"].values():
            metric["difference"] = {"value": -1.0, "low": -1.0, "high": -0.999}
    out = io.StringIO()
    show(compared, Console(file=out, width=80, force_terminal=True, no_color=True))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert "…" not in "\n".join(lines)
    assert any("-100.0% [-100.0%, -99.9%]" in line for line in lines)


def test_markup_and_control_characters_of_a_reply_are_shown_as_text():
    out = io.StringIO()
    compared = compare_results(result("base", [False]), result("tuned", [True]))
    show(compared, Console(file=out, width=140))
    assert "[bold]five[/]�[31m" in out.getvalue()
    assert "[red]q0[/]" in out.getvalue()
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        pytest.param([False] * 20, [True] * 20, "better by 100.0% (p = 1.9e-06)", id="better"),
        pytest.param([True] * 20, [False] * 20, "worse by 100.0% (p = 1.9e-06)", id="worse"),
        pytest.param([True, False], [False, True], "no difference is shown (p = 1.000)", id="even"),
    ],
)
def test_the_verdict_says_no_more_than_the_numbers(before, after, said):
    compared = compare_results(result("a", before), result("b", after))
    assert verdict(compared["tasks"]["t"]["metrics"]["strict_accuracy"]) == said


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([1, 0, 1, 1], {"mean": 0.75, "hits": 3, "n": 4}, id="right-or-wrong"),
        pytest.param([0.5, 1.0], {"mean": 0.75, "n": 2}, id="shares"),
        pytest.param([12.0], {"mean": 12.0, "low": 12.0, "high": 12.0, "n": 1}, id="one-length"),
        pytest.param([], {"mean": None, "n": 0}, id="nothing"),
    ],
)
def test_summarize(values, expected):
    found = summarize(values)
    assert {key: found[key] for key in expected} == expected
    assert ("hits" in found) == ("hits" in expected)


def test_a_length_of_one_token_everywhere_is_no_share():
    items = [{"scores": {"reply_tokens": 1.0, "no_answer": 1.0}} for _ in range(10)]
    metrics = metrics_of(items)
    assert "hits" not in metrics["reply_tokens"]
    assert metrics["no_answer"]["hits"] == 10


def test_lengths_are_shown_in_tokens_with_their_interval():
    longer = result("b", [True] * 3)
    for item in longer["tasks"]["t"]["items"]:
        item["scores"]["reply_tokens"] += 20.0 + int(item["id"][1])
    longer["tasks"]["t"]["metrics"] = metrics_of(longer["tasks"]["t"]["items"])
    task = compare_results(result("a", [True] * 3), longer)["tasks"]["t"]
    [row] = [row for row in table_rows(task) if row[0] == "reply_tokens"]
    assert row[1:4] == ["11.0", "32.0", "+21.0 [+19.9, +22.1]"]


def test_of_one_length_no_interval_is_known():
    compared = compare_results(result("a", [True]), result("b", [True]))
    gap = compared["tasks"]["t"]["metrics"]["reply_tokens"]["difference"]
    assert gap == {"value": 0.0, "low": None, "high": None}
    json.dumps(compared, allow_nan=False)


def test_items_of_several_filters_are_one_item_each():
    sample = {"doc_id": 0, "doc": {"question": "q"}, "target": "5", "resps": [["a", "b"]]}
    samples = [
        {**sample, "filter": name, "metrics": ["exact_match"], "exact_match": value}
        for name, value in (("strict-match", 0.0), ("flexible-extract", 1.0))
    ]
    [item] = items_of(samples)
    assert item["scores"] == {
        "exact_match,strict-match": 0.0,
        "exact_match,flexible-extract": 1.0,
    }
    assert item["replies"] == ["a", "b"]
    assert item["gold"] == "5"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "make eval", id="missing"),
        pytest.param("{", "is not JSON", id="torn"),
        pytest.param({"format": 99}, "not an evaluation result of format 1", id="other-format"),
        pytest.param("{}", "it has no sha256_of_the_rest", id="not-sealed"),
        pytest.param("[]", "expected a JSON object, got list", id="no-object"),
        pytest.param({"format": 1, "rungs": []}, "not an evaluation result", id="a-ladder"),
    ],
)
def test_a_file_that_is_no_result_is_named(tmp_path, content, message):
    path = tmp_path / "r.json"
    if isinstance(content, dict):
        write_sealed(path, content)
    elif content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_result(path)


def test_a_comparison_is_json():
    compared = compare_results(result("a", [True, False]), result("b", [False, False]))
    assert json.loads(json.dumps(compared, allow_nan=False)) == copy.deepcopy(compared)
