"""The lm-eval task: rows to items, replies to metrics."""

import json
import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from itertools import combinations
from pathlib import Path
from statistics import fmean

import pytest
import yaml

from xmlgrpo_evaluator.journal import CountedReply
from xmlgrpo_evaluator.tasks import task_folder
from xmlgrpo_rewards import reply
from xmlgrpo_rewards.commands.rows import made_rows
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import get_task, task_names
from xmlgrpo_run.screen.metric_names import PASS_AT

from ..conftest import write_rows
from ..tiny_model import rows

FOLDER = task_folder() / "any_task"


@pytest.fixture(scope="module")
def glue():
    spec = spec_from_file_location("glue_under_test", FOLDER / "glue.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def doc(glue, tmp_path):
    return items(glue, tmp_path, rows(1))["test"][0]


def items(glue, tmp_path, given, **options):
    return glue.load(data=str(write_rows(tmp_path / "items.jsonl", given)), **options)


GOOD = reply.render("2+3=5", "5")


@pytest.mark.parametrize(
    ("text", "true"),
    [
        pytest.param(
            GOOD,
            {"strict_accuracy", "lenient_accuracy", "strict_format", "soft_format"},
            id="right",
        ),
        pytest.param(
            reply.render("2+3=6", "6"), {"strict_format", "soft_format"}, id="wrong-but-in-form"
        ),
        pytest.param("It is 5.", {"lenient_accuracy"}, id="right-without-the-form"),
        pytest.param("", {"no_answer"}, id="nothing"),
        pytest.param("no idea", {"no_answer"}, id="no-number"),
        pytest.param(
            GOOD[: GOOD.index("</answer>")], {"lenient_accuracy"}, id="cut-off-before-the-end"
        ),
        pytest.param(f"{GOOD}\n{GOOD}", {"lenient_accuracy"}, id="two-answers"),
        pytest.param("5 " * 50_000, {"lenient_accuracy"}, id="endless-repetition"),
        pytest.param("\ufffd\ufffd", {"no_answer"}, id="invalid-bytes"),
    ],
)
def test_metrics_of_a_reply(glue, doc, text, true):
    metrics = glue.process_results(doc, [text])
    graded = {"strict_accuracy", "lenient_accuracy", "strict_format", "soft_format", "no_answer"}
    assert {name for name in graded if metrics[name]} == true


def test_counted_replies_bring_their_length(glue, doc):
    text = CountedReply(GOOD, tokens=31, truncated=True)
    metrics = glue.process_results(doc, [text])
    assert (metrics["reply_tokens"], metrics["truncated"]) == (31.0, 1.0)


def test_without_a_tokenizer_the_length_is_left_out_rather_than_guessed(glue, doc):
    assert not {"reply_tokens", "truncated"} & glue.process_results(doc, [GOOD]).keys()


@pytest.mark.slow
def test_a_stock_models_plain_replies_are_counted_with_its_tokenizer(glue, tmp_path, tiny):
    loaded = items(glue, tmp_path, rows(1), pretrained=str(tiny.base), reply_limit=5)
    metrics = glue.process_results(loaded["test"][0], [GOOD])
    assert metrics["reply_tokens"] > 5
    assert metrics["truncated"] == 1.0


WRONG = reply.render("2+3=4", "4")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        pytest.param([GOOD, GOOD, WRONG, ""], (0.5, 1.0, 1.0), id="most-votes-right"),
        pytest.param(
            [*(reply.render("2+3=5", form) for form in ("5", "5.0", "5.00")), WRONG, WRONG],
            (0.6, 1.0, 1.0),
            id="a-number-written-in-three-ways-is-one-answer",
        ),
        pytest.param([WRONG, WRONG, GOOD, ""], (0.25, 1.0, 0.0), id="most-votes-wrong"),
        pytest.param(
            [WRONG, "4", "5", "5"], (0.0, 0.0, 0.0), id="replies-out-of-form-have-no-vote"
        ),
        pytest.param([GOOD, "4", "4"], (1 / 3, 1.0, 1.0), id="only-replies-in-form-are-counted"),
        pytest.param(["", "", ""], (0.0, 0.0, 0.0), id="nobody-votes"),
        pytest.param([GOOD, WRONG], (0.5, 1.0, 1.0), id="a-tie-goes-to-the-first"),
    ],
)
def test_metrics_of_several_replies(glue, doc, texts, expected):
    metrics = glue.process_results_k(doc, [texts])
    names = ("strict_accuracy", "pass_at_k", "maj_at_k")
    assert tuple(metrics[name] for name in names) == expected


def test_pass_at_fewer_is_the_mean_over_every_choice_of_the_replies(glue, doc):
    texts = [WRONG, GOOD, "", WRONG, GOOD]
    metrics = glue.process_results_k(doc, [texts])
    for few in (2, 4):
        chosen = [float(GOOD in some) for some in combinations(texts, few)]
        assert metrics[f"pass_at_{few}"] == pytest.approx(fmean(chosen))
    assert "pass_at_8" not in metrics


JSON_ROWS = list(made_rows(get_task("json_qa"), 4, 0))


@pytest.fixture
def json_items(glue, tmp_path):
    """Items of a task whose answers are not numbers; the gold of the second is broken."""
    rows = [dict(row) for row in JSON_ROWS]
    rows[1]["gold"] = {}
    return items(glue, tmp_path, rows, rewards_task="json_qa")["test"]


def test_an_item_with_a_faulty_gold_is_left_out_in_sight(json_items, capfd):
    assert len(json_items) == 3
    assert json_items.info.description.startswith("1 left out for their gold, the first: row items")


def test_answers_that_are_no_numbers_vote_as_they_are(glue, json_items):
    doc = json_items[0]
    right = glue.worked_reply(doc)
    wrong = reply.render("It says so.", '{"n": 1}')
    votes = [wrong, wrong, right, reply.render("It says so.", '{"n": 1.0}')]
    metrics = glue.process_results_k(doc, [votes])
    assert (metrics["strict_accuracy"], metrics["pass_at_k"], metrics["maj_at_k"]) == (0.25, 1, 0)
    assert glue.process_results(doc, [right])["strict_accuracy"] == 1.0
    assert "judge" not in json.dumps([doc["system_text"], doc["user_text"]])


def test_a_task_without_a_data_set_on_the_hub_wants_a_file(glue, monkeypatch):
    monkeypatch.delenv("JSON_QA_DIR", raising=False)
    with pytest.raises(UserError, match=r"no data set on the Hub; .* or set JSON_QA_DIR=DIR"):
        glue.load(rewards_task="json_qa")


@pytest.mark.parametrize("task", task_names())
def test_every_task_of_ours_has_its_definitions(task):
    for form, template in (("_xml", "one_reply"), ("_xml_k", "k_replies")):
        path = task_folder() / f"{task}_xml" / f"{task}{form}.yaml"
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert config["include"] == f"../any_task/{template}.yaml"
        assert (config["task"], config["metadata"]["rewards_task"]) == (f"{task}{form}", task)
        assert config["metadata"]["reply_limit"] == 1024


def test_items_carry_the_prompt_of_training(doc):
    assert [
        {"role": "system", "content": doc["system_text"]},
        {"role": "user", "content": doc["user_text"]},
    ] == reply.messages(rows(1)[0]["question"])


def test_a_shot_is_shown_in_the_form_that_is_asked_for(glue, doc):
    assert reply.parse(glue.worked_reply(doc)).strict
    assert glue.process_results(doc, [glue.worked_reply(doc)])["strict_accuracy"] == 1.0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(
            '{"question": "q"}', r"row items.jsonl:1: expected a field 'answer'", id="no-answer"
        ),
        pytest.param(
            '{"question": "q", "answer": "5"}', r"row items.jsonl:1: .*####", id="no-gold"
        ),
        pytest.param(
            '{"id": "x9", "question": 1, "answer": "#### 1"}',
            "row items.jsonl:1: .*got 1",
            id="not-a-text",
        ),
        pytest.param("{", r"items.jsonl:1: expected one JSON object", id="not-json"),
        pytest.param("[1]", r"items.jsonl:1: expected a JSON object", id="not-an-object"),
        pytest.param("[" * 100_000, r"items.jsonl:1: expected one", id="nested"),
        pytest.param("\udcff", r"items.jsonl:1: expected UTF-8", id="no-text"),
        pytest.param("", r"at least one row in .*items\.jsonl", id="nothing"),
    ],
)
def test_a_bad_row_is_named(glue, tmp_path, line, message):
    path = tmp_path / "items.jsonl"
    path.write_bytes((line + "\n").encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=message):
        glue.load(data=str(path))


def test_a_byte_order_mark_is_no_part_of_the_first_row(glue, tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps(rows(1)[0]), encoding="utf-8-sig")
    assert glue.load(data=str(path))["test"]["id"] == ["sum-0"]


def test_a_folder_without_items_is_named(glue, tmp_path):
    with pytest.raises(UserError, match=r"--data: no file at .*folder with test\.jsonl"):
        glue.load(data=str(tmp_path))


def test_the_environment_names_the_data_too(glue, tmp_path, monkeypatch):
    (tmp_path / "test.jsonl").write_text(json.dumps(rows(1)[0]), encoding="utf-8")
    monkeypatch.setenv("SOME_DIR", str(tmp_path))
    loaded = glue.load(data_variable="SOME_DIR")
    assert loaded["test"]["id"] == ["sum-0"]
    assert len(loaded["train"]) == 0


def configs() -> list[Path]:
    return sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", configs(), ids=lambda path: path.stem)
def test_every_config_stops_where_it_must(path):
    """`</answer>` must never be a stop string: the harness cuts stop strings off."""

    class Loader(yaml.SafeLoader):
        pass

    def name_of(loader: Loader, node: yaml.Node) -> object:
        assert isinstance(node, yaml.ScalarNode)
        return loader.construct_scalar(node)

    Loader.add_constructor("!function", name_of)
    config = yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506  # a SafeLoader
    generation = config.get("generation_kwargs")
    if generation is None:
        assert "include" in config
        return
    assert generation["until"] == ["<end_of_turn>"]
    limit = config.get("metadata", {}).get("reply_limit", generation["max_gen_toks"])
    assert limit == generation["max_gen_toks"]


def test_the_curve_of_several_replies_is_that_of_the_tables():
    text = (FOLDER / "k_replies.yaml").read_text(encoding="utf-8")
    listed = re.findall(r"metric: pass_at_(\d+)", text)
    assert tuple(map(int, listed)) == PASS_AT


def test_every_gold_of_gsm8k_scores_full_marks(glue, gsm8k_dir):
    loaded = glue.load(data=str(gsm8k_dir))
    assert len(loaded["test"]) == 1319
    for doc in loaded["test"]:
        assert glue.process_results(doc, [glue.worked_reply(doc)])["strict_accuracy"] == 1.0
