"""The commands on a tiny real model, its adapter and its GGUF."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from xmlgrpo_evaluator.cli import _main
from xmlgrpo_evaluator.result import read_result
from xmlgrpo_rewards import reply
from xmlgrpo_rewards.errors import UserError

from .conftest import ITEMS, Tiny, rows

pytestmark = [
    pytest.mark.slow,
    # lm-eval and datasets leave files open and use what newer libraries deprecate
    pytest.mark.filterwarnings("default"),
]
SETTINGS = ("--max-new-tokens", "48", "--quiet")


def command(*words: object) -> int | None:
    return _main([str(word) for word in words])


@pytest.fixture(scope="module")
def base_result(tiny: Tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("base") / "base.json"
    command("run", "--model", tiny.base, "--data", tiny.items, "--out", out, *SETTINGS)
    return out


def replies(path: Path) -> list[str]:
    [task] = read_result(path)["tasks"].values()
    return [item["replies"][0] for item in task["items"]]


def test_the_result_counts_what_the_replies_say(base_result):
    result = read_result(base_result)
    [task] = result["tasks"].values()
    right = [
        reply.parse(item["replies"][0]).answer == item["gold"]
        and reply.parse(item["replies"][0]).strict
        for item in task["items"]
    ]
    assert [item["scores"]["strict_accuracy"] == 1 for item in task["items"]] == right
    assert task["metrics"]["strict_accuracy"]["hits"] == sum(right) == ITEMS
    assert task["metrics"]["truncated"]["hits"] == 0
    stderr = result["lm_eval"]["results"]["gsm8k_xml"]["strict_accuracy_stderr,none"]
    assert stderr == 0.0


def test_prompts_and_batches_are_proven(base_result):
    result = read_result(base_result)
    prompts = result["prompts"]
    assert (prompts["compared"], prompts["identical"]) == (ITEMS, ITEMS)
    assert prompts["begins_with"] == {"1": ITEMS}
    assert result["batch_check"] == {"items": 4, "identical": 4}


def test_an_independent_loop_gives_the_same_replies(base_result, tiny):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny.base)
    model = AutoModelForCausalLM.from_pretrained(tiny.base, dtype=torch.float32)
    result = read_result(base_result)
    for item, row in zip(result["tasks"]["gsm8k_xml"]["items"], rows(), strict=True):
        ids = tokenizer.apply_chat_template(
            reply.messages(row["question"]),
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        written = model.generate(**ids, max_new_tokens=48, do_sample=False)[0]
        said = written[ids["input_ids"].shape[1] :]
        assert tokenizer.decode(said, skip_special_tokens=True) == item["replies"][0]
        assert len(said) == item["scores"]["reply_tokens"]


def test_a_run_is_compared_with_its_base(tiny, capsys):
    command("run", "--run", tiny.run.root, "--quiet")
    compared = json.loads((tiny.run.eval / "compare.json").read_text())
    task = compared["tasks"]["gsm8k_xml"]
    table = task["metrics"]["strict_accuracy"]["table"]
    assert compared["cautions"] == []
    assert sum(table.values()) == ITEMS
    assert table["only_first"] == len(task["lost"])
    assert table["only_second"] == len(task["gained"])
    assert task["lost"], "the random adapter was meant to break some answers"
    shown = capsys.readouterr().out
    assert "Final accuracy: 100.00% (12/12)" in shown
    assert "tuned gained 0 items and lost" in shown


def test_killed_and_resumed_is_as_if_never_killed(tiny, base_result, tmp_path):
    out = tmp_path / "killed.json"
    words = ["run", "--model", tiny.base, "--data", tiny.items, "--out", out, "--batch-size", "1"]
    words += ["--max-new-tokens", "48"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "xmlgrpo_evaluator.cli", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("[003/"):
            os.kill(process.pid, signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    kept = (tmp_path / "killed.replies.jsonl").read_text().count('"key"')
    assert 3 <= kept < ITEMS
    command(*words, "--quiet")
    assert replies(out) == replies(base_result)
    assert read_result(out)["speed"]["resumed_replies"] >= kept - 1


def test_a_finished_result_is_read_and_not_asked_again(base_result, tiny, capsys):
    before = base_result.read_bytes()
    command("run", "--model", tiny.base, "--data", tiny.items, "--out", base_result, *SETTINGS)
    assert "already evaluated" in capsys.readouterr().out
    assert base_result.read_bytes() == before


def test_the_stock_tool_gives_the_same_numbers(base_result, tiny, tmp_path):
    from xmlgrpo_evaluator.tasks import task_folder

    words = ["run", "--include_path", task_folder(), "--tasks", "gsm8k_xml", "--model", "hf"]
    words += ["--model_args", f"pretrained={tiny.base},dtype=float32", "--device", "cpu"]
    words += ["--apply_chat_template", "--batch_size", "4", "--output_path", tmp_path]
    words += ["--gen_kwargs", "max_gen_toks=48", "--metadata", "reply_limit=48"]
    done = subprocess.run(
        [Path(sys.executable).with_name("lm_eval"), *map(str, words), f"data={tiny.items}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    found = list(tmp_path.rglob("results_*.json"))
    assert found, done.stderr
    stock = json.loads(found[0].read_text())["results"]["gsm8k_xml"]
    ours = read_result(base_result)["tasks"]["gsm8k_xml"]["metrics"]
    for name in ("strict_accuracy", "lenient_accuracy", "strict_format", "no_answer", "truncated"):
        assert stock[f"{name},none"] == ours[name]["mean"], name
        assert f"{name}_stderr,none" in stock
    # the stock model does not count; the reply without its end token is tokenized again
    assert stock["reply_tokens,none"] == pytest.approx(ours["reply_tokens"]["mean"] - 1, abs=0.5)


def test_sampled_replies_give_pass_and_majority(tiny, tmp_path):
    out = tmp_path / "k.json"
    words = ("--model", tiny.base, "--data", tiny.items, "--limit", "4", "--k", "3", *SETTINGS)
    command("run", *words, "--out", out)
    task = read_result(out)["tasks"]["gsm8k_xml_k"]
    assert all(len(item["replies"]) == 3 for item in task["items"])
    assert {"strict_accuracy", "pass_at_k", "maj_at_k"} <= task["metrics"].keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(
            ["--task", "gsm8k_xlm"], "no task named 'gsm8k_xlm'; did you mean gsm8k_xml", id="task"
        ),
        pytest.param(["--limit", "0"], "--limit: expected a whole number above 0", id="limit"),
        pytest.param(["--batch-size", "x"], "--batch-size: expected", id="batch-size"),
        pytest.param(["--batch-size", "0"], "--batch-size: expected", id="batch-size-0"),
        pytest.param(["--check-batch", "-1"], "--check-batch: expected 0 or more", id="check"),
        pytest.param(["--out", "."], "--out: . is a folder", id="out-is-a-folder"),
        pytest.param(["--out", "/dev/null/x/e.json"], "--out: cannot make", id="out-nowhere"),
        pytest.param(
            ["--gen_kwargs", "temperature=hot,do_sample=True"],
            "expected a number as temperature, came 'hot'",
            id="temperature",
        ),
        pytest.param(
            ["--task", "gsm8k"], r"gsm8k shows solved problems .*--num_fewshot 0", id="no-shots"
        ),
        pytest.param(["--data", "nowhere"], "--data: nothing at nowhere", id="data"),
        pytest.param(["--max-new-tokens", "500"], "more than the model's 512", id="no-room"),
        pytest.param(["--frobnicate", "3"], "lm-eval does not take", id="unknown-argument"),
        pytest.param(["--output_path", "x"], "belongs to lm-eval's own", id="not-ours-to-pass-on"),
        pytest.param(["--adapter", "nowhere"], "cannot load .* with adapter nowhere", id="adapter"),
    ],
)
def test_a_users_mistake_is_one_message(tiny, tmp_path, words, message):
    data = [] if "--data" in words else ["--data", tiny.items]
    out = [] if "--out" in words else ["--out", tmp_path / "x.json"]
    with pytest.raises(UserError, match=message):
        command("run", "--model", tiny.base, *out, *data, *words)
    assert not (tmp_path / "x.json").exists()


def test_other_settings_do_not_overwrite_a_result(base_result, tiny):
    before = base_result.read_bytes()
    words = ("--model", tiny.base, "--data", tiny.items, "--out", base_result, "--quiet")
    with pytest.raises(UserError, match=r"another max_new_tokens.*--out"):
        command("run", *words, "--max-new-tokens", "20")
    assert base_result.read_bytes() == before


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


@pytest.mark.gguf
class TestGguf:
    def test_gguf_and_transformers_give_the_same_replies(
        self, base_result, tiny, tiny_gguf, tmp_path
    ):
        out = tmp_path / "gguf.json"
        words = ("--data", tiny.items, "--tokenizer", tiny.base, "--out", out, *SETTINGS)
        command("run", "--model", tiny_gguf, *words)
        assert replies(out) == replies(base_result)
        ours, theirs = read_result(out), read_result(base_result)
        assert ours["prompts"]["identical"] == ITEMS
        assert ours["prompts"]["digest"] == theirs["prompts"]["digest"]
        for name, metric in theirs["tasks"]["gsm8k_xml"]["metrics"].items():
            assert ours["tasks"]["gsm8k_xml"]["metrics"][name] == metric

    def test_an_independent_slow_loop_scores_the_file_alike(self, tiny, tiny_gguf, tmp_path):
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

    def test_stock_multiple_choice_scores_alike(self, tiny, tiny_gguf, tmp_path):
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

    def test_a_gguf_takes_no_adapter(self, tiny, tiny_gguf):
        with pytest.raises(UserError, match="cannot be put on a GGUF"):
            command("run", "--model", tiny_gguf, "--adapter", tiny.adapter)
