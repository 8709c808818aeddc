"""lm-eval itself on our tasks, and its own GSM8K tasks beside ours."""

import json

import pytest

import forked
from xmlgrpo_evaluator.results.result import read_result

from ..conftest import SETTINGS, command
from ..tiny_model import ITEMS, rows

pytestmark = [
    pytest.mark.slow,
    # lm-eval and datasets leave files open and use what newer libraries deprecate
    pytest.mark.filterwarnings("default"),
]


def test_the_stock_tool_gives_the_same_numbers(base_result, tiny, tmp_path):
    from xmlgrpo_evaluator.tasks import task_folder

    words = ["run", "--include_path", task_folder(), "--tasks", "gsm8k_xml", "--model", "hf"]
    words += ["--model_args", f"pretrained={tiny.base},dtype=float32", "--device", "cpu"]
    words += ["--apply_chat_template", "--batch_size", "4", "--output_path", tmp_path]
    words += ["--gen_kwargs", "max_gen_toks=48", "--metadata", "reply_limit=48"]
    done = forked.run(["lm_eval", *words, f"data={tiny.items}"], tmp_path)
    found = list(tmp_path.rglob("results_*.json"))
    assert found, done.stderr
    stock = json.loads(found[0].read_text())["results"]["gsm8k_xml"]
    ours = read_result(base_result)["tasks"]["gsm8k_xml"]["metrics"]
    for name in ("strict_accuracy", "lenient_accuracy", "strict_format", "no_answer", "truncated"):
        assert stock[f"{name},none"] == ours[name]["mean"], name
        assert f"{name}_stderr,none" in stock
    # the stock model does not count; the reply without its end token is tokenized again
    assert stock["reply_tokens,none"] == pytest.approx(ours["reply_tokens"]["mean"] - 1, abs=0.5)


def test_the_stock_tool_validates_our_tasks(tmp_path):
    from xmlgrpo_evaluator.tasks import task_folder

    names = "gsm8k_xml,gsm8k_xml_k,gsm8k_xml_platinum"
    words = ("lm_eval", "validate", "--include_path", task_folder(), "--tasks", names)
    done = forked.run(words, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "All tasks found and valid" in done.stdout


def test_stock_tasks_and_platinum_are_asked_the_same_items(tiny, tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "test.jsonl").write_bytes(tiny.items.read_bytes())
    monkeypatch.setenv("GSM8K_DIR", str(folder))
    monkeypatch.setenv("GSM8K_PLATINUM_DIR", str(folder))
    out = tmp_path / "beside.json"
    names = "gsm8k_xml,gsm8k_xml_platinum,gsm8k_cot_zeroshot"
    words = ("--model", tiny.base, "--task", names, "--limit", "3", "--out", out)
    command("run", *words, *SETTINGS)
    result = read_result(out)
    assert set(result["tasks"]) == set(names.split(","))
    for task in result["tasks"].values():
        assert [item["question"] for item in task["items"]] == [r["question"] for r in rows(3)]
        assert (task["data"]["source"], task["data"]["name"]) == ("files", "test.jsonl")
        assert task["data"]["rows"] == ITEMS
        assert task["data"]["sha256"] == result["subject"]["data"]
    stock = result["tasks"]["gsm8k_cot_zeroshot"]["metrics"]
    assert {"exact_match,strict-match", "exact_match,flexible-extract"} <= stock.keys()
