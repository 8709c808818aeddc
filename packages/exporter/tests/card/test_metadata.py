"""What the Hub reads: the model index and `.eval_results`."""

import json

import pytest
import yaml

from .. import run_folders
from ..cards import GSM8K, HUB, REPO, card_of, metadata, published, write_evaluation

BENCHMARK = ".eval_results/xmlgrpo.yaml"
ROWS = "[1,319](results/eval/compare.json#/tasks/gsm8k_xml/data/rows)"


@pytest.fixture
def run(tmp_path):
    run = run_folders.write_full_run(tmp_path / "gsm8k-1b")
    write_evaluation(run)
    return run


def test_the_model_index_and_the_eval_results(run):
    index = metadata(card_of(run))["model-index"][0]["results"]
    test = next(entry for entry in index if entry["dataset"]["split"] == "test")
    assert test["dataset"]["type"] == "openai/gsm8k"
    assert test["metrics"][0]["value"] == 800 / 1319
    assert test["source"]["url"] == f"{HUB}/{REPO}/blob/main/results/eval/tuned.json"
    (entry,) = yaml.safe_load(published(run)[BENCHMARK])
    assert entry["dataset"]["id"] == "openai/gsm8k"
    assert entry["value"] == 800 / 1319
    assert entry["source"]["url"] == test["source"]["url"]


FILE = {"source": "files", "name": "test.jsonl", "revision": None, "sha256": "ab" * 32}


@pytest.mark.parametrize(
    ("data", "line"),
    [
        pytest.param(
            GSM8K,
            "Graded on `openai/gsm8k`, a data set on the Hub at revision "
            f"`{GSM8K['revision']}` of {ROWS} problems, "
            f"sha256 `{GSM8K['sha256']}`; replies of at most "
            "[1,024](results/eval/compare.json#/settings/max_new_tokens) tokens; version "
            "[3](results/eval/compare.json#/settings/format_version) of the reply format.",
            id="hub",
        ),
        pytest.param(
            FILE | {"rows": 1319},
            f"Graded on `test.jsonl`, a file of {ROWS} problems, sha256 `{'ab' * 32}`; replies",
            id="a-file",
        ),
        pytest.param(None, "Which problems these were was not recorded.", id="not-recorded"),
    ],
)
def test_the_card_says_which_problems_were_graded(run, data, line):
    write_evaluation(run, data=data)
    card = card_of(run)
    section = card.split("### `gsm8k_xml`")[1].split("|")[0]
    assert line in section
    assert ("openai/gsm8k" in section) == (data is GSM8K)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(FILE | {"rows": 1319}, id="a-file-of-as-many-rows"),
        pytest.param(GSM8K | {"rows": 1400}, id="not-all-rows"),
        pytest.param(None, id="not-recorded"),
    ],
)
def test_what_was_not_the_whole_data_set_of_the_hub_claims_no_benchmark(run, data):
    """The leaderboards read `.eval_results`; the index names a file as a file."""
    write_evaluation(run, data=data)
    assert BENCHMARK not in published(run)
    for entry in metadata(card_of(run))["model-index"][0]["results"]:
        if entry["dataset"]["split"] == "test":
            assert entry["dataset"]["type"] == "test.jsonl"
            assert "ab" * 32 in entry["dataset"]["name"]


def test_a_result_of_two_tasks_says_it_with_each(run):
    for label in ("base", "tuned"):
        path = run / f"eval/{label}.json"
        result = json.loads(path.read_text())
        other = {"data": FILE | {"rows": 3}, "metrics": {}, "items": []}
        tasks = result["tasks"] | {"mine": other}
        run_folders.write_json(path, result | {"tasks": tasks})
    section = card_of(run).split("### `gsm8k_xml`")[1].split("|")[0]
    assert "Graded on `openai/gsm8k`, a data set on the Hub" in section
    assert "results/eval/compare.json#/tasks/gsm8k_xml/data/rows" in section
    assert BENCHMARK in published(run)


@pytest.mark.parametrize("changed", [{"chat_template": False}, {"harness": {"num_fewshot": 5}}])
def test_problems_asked_in_another_way_are_no_benchmark_result(run, changed):
    tuned = json.loads((run / "eval/tuned.json").read_text())
    tuned["subject"] |= changed
    run_folders.write_json(run / "eval/tuned.json", tuned)
    assert BENCHMARK not in published(run)


def test_a_part_of_the_test_split_is_no_benchmark_result(run):
    write_evaluation(run, limit=100)
    assert BENCHMARK not in published(run)
    index = metadata(card_of(run))["model-index"][0]["results"]
    assert {entry["dataset"]["split"] for entry in index} == {"train"}


def test_a_part_evaluated_beside_the_whole_takes_nothing_away(run):
    part = json.loads((run / "eval/tuned.json").read_text())
    part["subject"]["limit"] = 40
    run_folders.write_json(run / "eval/tuned-n40.json", part)
    assert BENCHMARK in published(run)


def test_quantized_files_alone_do_not_carry_the_trained_models_numbers(run):
    """The numbers of the weights that they were made of are on the card, as those weights'."""
    assert "model-index" not in metadata(card_of(run, "gguf"))
    assert BENCHMARK not in published(run, "gguf")
    tuned = json.loads((run / "eval/tuned.json").read_text())
    run_folders.write_json(run / "eval/gsm8k-1b-q8_0.json", tuned | {"label": "gsm8k-1b-q8_0"})
    (entry,) = metadata(card_of(run, "gguf"))["model-index"][0]["results"]
    assert entry["source"]["name"] == "results/eval/gsm8k-1b-q8_0.json"
    assert entry["metrics"][0]["name"] == "right and in the reply format, gsm8k-1b-q8_0"


def test_the_trained_model_has_one_line_and_not_one_a_form(run):
    tuned = json.loads((run / "eval/tuned.json").read_text())
    run_folders.write_json(run / "eval/merged.json", tuned | {"label": "merged"})
    index = metadata(card_of(run))["model-index"][0]["results"]
    sources = [entry["source"]["name"] for entry in index if entry["dataset"]["split"] == "test"]
    assert sources == ["results/eval/merged.json"]
