"""The commands on a GGUF: against transformers, against a slow loop, on multiple choice."""

import pytest

from xmlgrpo_evaluator.results.result import read_result
from xmlgrpo_rewards import reply
from xmlgrpo_rewards.errors import UserError

from .conftest import SETTINGS, command, replies
from .tiny_model import ITEMS, rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.gguf,
    # lm-eval and datasets leave files open and use what newer libraries deprecate
    pytest.mark.filterwarnings("default"),
]

CHOICES = """\
task: which_sum
dataset_path: json
dataset_name: null
dataset_kwargs: {{data_files: {{test: {items}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["The answer is 5", "The answer is seven and twenty", "No"]
doc_to_target: 0
metric_list: [{{metric: acc}}]
"""


def test_gguf_and_transformers_give_the_same_replies(base_result, tiny, tiny_gguf, tmp_path):
    out = tmp_path / "gguf.json"
    words = ("--data", tiny.items, "--tokenizer", tiny.base, "--out", out, *SETTINGS)
    command("run", "--model", tiny_gguf, *words)
    assert replies(out) == replies(base_result)
    ours, theirs = read_result(out), read_result(base_result)
    assert ours["prompts"]["identical"] == ITEMS
    assert ours["prompts"]["digest"] == theirs["prompts"]["digest"]
    for name, metric in theirs["tasks"]["gsm8k_xml"]["metrics"].items():
        assert ours["tasks"]["gsm8k_xml"]["metrics"][name] == metric


def test_an_independent_slow_loop_scores_the_file_alike(tiny, tiny_gguf, tmp_path):
    """llama-cpp-python's high-level API: its template, tokens, loop and stop, one by one."""
    from llama_cpp import Llama

    out = tmp_path / "gguf.json"
    words = ("--data", tiny.items, "--tokenizer", tiny.base, "--out", out, *SETTINGS)
    command("run", "--model", tiny_gguf, *words)
    items = read_result(out)["tasks"]["gsm8k_xml"]["items"]
    slow = Llama(str(tiny_gguf), n_ctx=512, n_threads=1, verbose=False)
    for item, row in zip(items, rows(), strict=True):
        slow.reset()
        done = slow.create_chat_completion(
            reply.messages(row["question"]), temperature=0.0, repeat_penalty=1.0, max_tokens=48
        )
        text = done["choices"][0]["message"]["content"]
        read = reply.parse(text)
        assert item["replies"] == [text], row["id"]
        assert item["scores"]["strict_format"] == read.strict
        right = read.strict and read.answer == row["answer"].split("#### ")[1]
        assert item["scores"]["strict_accuracy"] == right
        stopped = done["choices"][0]["finish_reason"] == "stop"
        assert item["scores"]["truncated"] == (not stopped)
        # the high-level API does not count the token that ends the reply
        counted = done["usage"]["completion_tokens"] + stopped
        assert item["scores"]["reply_tokens"] == counted
    slow.close()


def test_stock_multiple_choice_scores_alike(tiny, tiny_gguf, tmp_path):
    (tmp_path / "which_sum.yaml").write_text(CHOICES.format(items=tiny.items))
    results = []
    for name, model in (("hf", tiny.base), ("gguf", tiny_gguf)):
        out = tmp_path / f"{name}.json"
        words = ("--task", "which_sum", "--include_path", tmp_path, "--out", out, "--quiet")
        command("run", "--model", model, *words)
        results.append(read_result(out)["tasks"]["which_sum"])
    first, second = results
    assert [i["scores"] for i in first["items"]] == [i["scores"] for i in second["items"]]
    pairs = zip(first["items"], second["items"], strict=True)
    for one, other in pairs:
        for mine, theirs in zip(one["replies"], other["replies"], strict=True):
            assert float(mine.strip("(").split(",")[0]) == pytest.approx(
                float(theirs.strip("(").split(",")[0]), rel=5e-3, abs=5e-3
            )


def test_sampled_replies_of_a_gguf_are_those_of_its_seed_however_often_it_is_interrupted(
    tiny, tiny_gguf, tmp_path, capsys
):
    out, journal = tmp_path / "k.json", tmp_path / "k.replies.jsonl"
    several = ("--limit", "4", "--k", "3", *SETTINGS)
    words = ("run", "--model", tiny_gguf, "--data", tiny.items, "--out", out, *several)
    command(*words)
    first = read_result(out)["tasks"]
    assert {"strict_accuracy", "pass_at_k", "maj_at_k"} <= first["gsm8k_xml_k"]["metrics"].keys()
    shown = " ".join(capsys.readouterr().out.split())
    assert "sampled: 3 replies an item at T 1, seed 0" in shown
    assert "greedy one sample maj@3 pass@3" in shown
    whole = journal.read_text(encoding="utf-8").splitlines()
    journal.write_text("".join(f"{line}\n" for line in whole[:-5]), encoding="utf-8")
    out.unlink()
    command(*words, "--batch-size", "2")
    again = read_result(out)
    assert again["speed"]["resumed_replies"] == 4 * (1 + 3) - 5
    assert replies_of(again["tasks"]) == replies_of(first)
    command(*words, "--seed", "1", "--out", tmp_path / "other.json")
    other = read_result(tmp_path / "other.json")["tasks"]
    greedy, sampled = replies_of(other), replies_of(first)
    assert greedy["gsm8k_xml"] == sampled["gsm8k_xml"]
    assert greedy["gsm8k_xml_k"] != sampled["gsm8k_xml_k"]


def replies_of(tasks):
    return {name: [item["replies"] for item in task["items"]] for name, task in tasks.items()}


def test_a_gguf_takes_no_adapter(tiny, tiny_gguf):
    with pytest.raises(UserError, match="cannot be put on a GGUF"):
        command("run", "--model", tiny_gguf, "--adapter", tiny.adapter)
