"""The commands on a tiny real model, its adapter and its GGUF."""

import json
import signal
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path

import pytest

import forked
from xmlgrpo_evaluator.results.result import read_result
from xmlgrpo_rewards import reply
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import SEAL, sealed

from .conftest import SETTINGS, command, replies
from .tiny_model import ITEMS, rows

pytestmark = [
    pytest.mark.slow,
    # lm-eval and datasets leave files open and use what newer libraries deprecate
    pytest.mark.filterwarnings("default"),
]

STOCK_GSM8K = Path(str(distribution("lm_eval").locate_file("lm_eval/tasks/gsm8k")))


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


def test_a_path_that_reads_as_markup_is_printed_as_it_is(base_result, tiny, tmp_path, capsys):
    out = tmp_path / "x[" / "b]" / "base.json"
    out.parent.mkdir(parents=True)
    out.write_bytes(base_result.read_bytes())
    command("run", "--model", tiny.base, "--data", tiny.items, "--out", out, *SETTINGS)
    printed = capsys.readouterr()
    shown = "".join((printed.out + printed.err).split())
    assert f"readfrom{out}" in shown
    assert f"result:{out}" in shown


def test_prompts_and_batches_are_proven(base_result):
    result = read_result(base_result)
    prompts = result["prompts"]
    assert (prompts["compared"], prompts["identical"]) == (ITEMS, ITEMS)
    assert prompts["begins_with"] == {"1": ITEMS}
    assert result["batch_check"] == {"items": 4, "identical": 4}


def test_the_result_says_which_items_it_is_of(base_result, tiny):
    assert read_result(base_result)["data"] == {
        "source": "files",
        "name": tiny.items.name,
        "revision": None,
        "sha256": sha256(tiny.items.read_bytes()).hexdigest(),
        "rows": ITEMS,
    }


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


KILLED = """
import os, signal
from xmlgrpo_evaluator.progress import Screen

reply, seen = Screen.reply, []

def third_is_the_last(*arguments, **options):
    reply(*arguments, **options)
    seen.append(1)
    if len(seen) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

Screen.reply = third_is_the_last
"""


def test_killed_and_resumed_is_as_if_never_killed(tiny, base_result, tmp_path):
    out = tmp_path / "killed.json"
    words = ["run", "--model", tiny.base, "--data", tiny.items, "--out", out, "--batch-size", "1"]
    words += ["--max-new-tokens", "48"]
    ended = forked.run(["xmlgrpo-eval", *words], tmp_path, before=KILLED)
    assert ended.returncode == -signal.SIGKILL
    assert "\n[003/" in ended.stdout
    kept = (tmp_path / "killed.replies.jsonl").read_text().count('"key"')
    assert 3 <= kept < ITEMS
    command(*words, "--quiet")
    assert replies(out) == replies(base_result)
    assert read_result(out)["speed"]["resumed_replies"] >= kept - 1


@pytest.mark.parametrize("engine", ["auto", "graph"])
def test_a_finished_result_is_read_and_not_asked_again(base_result, tiny, capsys, engine):
    before = base_result.read_bytes()
    words = ("--model", tiny.base, "--data", tiny.items, "--out", base_result, *SETTINGS)
    command("run", *words, "--engine", engine)
    assert "already evaluated" in capsys.readouterr().out
    assert base_result.read_bytes() == before


SAMPLED = ("--limit", "4", "--k", "3", "--temperature", "0.9", *SETTINGS)


def test_sampled_replies_stand_beside_greedy_ones(tiny, base_result, tmp_path, capsys):
    out, journal = tmp_path / "k.json", tmp_path / "k.replies.jsonl"
    words = ("run", "--model", tiny.base, "--data", tiny.items, "--out", out, *SAMPLED)
    command(*words)
    result = read_result(out)
    greedy, sampled = (result["tasks"][name] for name in ("gsm8k_xml", "gsm8k_xml_k"))
    assert greedy["items"] == read_result(base_result)["tasks"]["gsm8k_xml"]["items"][:4]
    assert result["batch_check"] == {"items": 4, "identical": 4}
    assert all(len(item["replies"]) == 3 for item in sampled["items"])
    assert {"strict_accuracy", "pass_at_2", "pass_at_k", "maj_at_k"} <= sampled["metrics"].keys()
    shown = " ".join(capsys.readouterr().out.split())
    assert "Final accuracy: 100.00% (4/4)" in shown
    assert "sampled: 3 replies an item at T 0.9, seed 0; 95% intervals" in shown
    assert "greedy one sample maj@3 pass@3" in shown
    # killed in the middle of an item's samples: only the rest is asked
    whole = journal.read_text(encoding="utf-8").splitlines()
    kept = whole[:-5]
    journal.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    out.unlink()
    command(*words)
    assert read_result(out)["speed"]["resumed_replies"] == 4 * (1 + 3) - 5
    again = journal.read_text(encoding="utf-8").splitlines()
    assert (again[: len(kept)], len(again)) == (kept, len(whole))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(
            ["--task", "gsm8k_xlm"], "no task named 'gsm8k_xlm'; did you mean gsm8k_xml", id="task"
        ),
        pytest.param(["--limit", "0"], "--limit: expected a whole number above 0", id="limit"),
        pytest.param(["--engine", "fast"], "--engine: expected one of auto, gen", id="engine"),
        pytest.param(["--model_args", "engine=graph"], "with --engine, not", id="engine-as-arg"),
        pytest.param(
            ["--engine", "graph", "--gen_kwargs", "num_beams=2", "--max-new-tokens", "9"],
            "--engine graph cannot answer: .*num_beams=2",
            id="engine-cannot",
        ),
        pytest.param(["--batch-size", "x"], "--batch-size: expected", id="batch-size"),
        pytest.param(["--batch-size", "0"], "--batch-size: expected", id="batch-size-0"),
        pytest.param(["--check-batch", "-1"], "--check-batch: expected 0 or more", id="check"),
        pytest.param(["--out", "."], "--out: . is a folder", id="out-is-a-folder"),
        pytest.param(["--out", "/dev/null/x/e.json"], "--out: cannot make", id="out-nowhere"),
        pytest.param(
            ["--gen_kwargs", "temperature=hot,do_sample=True"],
            "expected a number as temperature, got 'hot'",
            id="temperature",
        ),
        pytest.param(
            # its folder by name: without it all of lm-eval's tasks are searched, as above
            ["--task", "gsm8k", "--include_path", str(STOCK_GSM8K)],
            r"gsm8k shows solved problems .*--num_fewshot 0",
            id="no-shots",
        ),
        pytest.param(["--data", "nowhere"], "--data: nothing at nowhere", id="data"),
        pytest.param(["--max-new-tokens", "500"], "more than the model's 512", id="no-room"),
        pytest.param(["--frobnicate", "3"], "lm-eval does not take", id="unknown-argument"),
        pytest.param(["--output_path", "x"], "belongs to lm-eval's own", id="not-ours-to-pass-on"),
        pytest.param(
            ["--adapter", "nowhere"], "no adapter 'nowhere' here, and the Hub", id="adapter"
        ),
    ],
)
def test_a_users_mistake_is_one_message(tiny, tmp_path, words, message):
    data = [] if "--data" in words else ["--data", tiny.items]
    out = [] if "--out" in words else ["--out", tmp_path / "x.json"]
    with pytest.raises(UserError, match=message):
        command("run", "--model", tiny.base, *out, *data, *words)
    assert not (tmp_path / "x.json").exists()


def test_options_that_graph_does_not_know_are_refused_before_a_model_is_loaded(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")  # nothing to load beside it
    with pytest.raises(UserError, match=r"--engine graph cannot answer: .*num_beams=2"):
        command(
            *("run", "--model", tmp_path, "--out", tmp_path / "x.json"),
            *("--engine", "graph", "--gen_kwargs", "num_beams=2"),
        )


def test_other_settings_do_not_overwrite_a_result(base_result, tiny):
    before = base_result.read_bytes()
    words = ("--model", tiny.base, "--data", tiny.items, "--out", base_result, "--quiet")
    with pytest.raises(UserError, match=r"another max_new_tokens.*--out"):
        command("run", *words, "--max-new-tokens", "20")
    assert base_result.read_bytes() == before


def test_the_result_says_which_engine_answered_and_both_answer_alike(base_result, tiny, tmp_path):
    engines = read_result(base_result)["engines"]
    why = ["it reads this model, on the CPU"]
    assert engines == {"asked": "auto", "answered": ["graph"], "why": why}
    assert read_result(base_result)["batch_size"] == 64
    out = tmp_path / "generate.json"
    words = ("--model", tiny.base, "--data", tiny.items, "--out", out, *SETTINGS)
    command("run", *words, "--engine", "generate")
    one, other = read_result(base_result), read_result(out)
    assert other["engines"] == {"asked": "generate", "answered": ["generate"], "why": ["asked for"]}
    assert other["batch_size"] == 16
    assert [t["items"] for t in one["tasks"].values()] == [
        t["items"] for t in other["tasks"].values()
    ]
    with pytest.raises(UserError, match="another engine"):
        command("run", *words, "--engine", "graph")


def test_an_evaluation_that_generate_began_is_finished_by_it(base_result, tiny, tmp_path, capsys):
    kept = base_result.with_name("base.replies.jsonl").read_text(encoding="utf-8")
    lines = kept.replace('"name": "graph"', '"name": "generate"').splitlines()[:5]
    out = tmp_path / "begun.json"
    journal = tmp_path / "begun.replies.jsonl"
    rows = [{k: v for k, v in json.loads(line).items() if k != SEAL} for line in lines]
    text = "".join(f"{json.dumps(sealed(row))}\n" for row in rows)
    journal.write_text(text, encoding="utf-8")
    command("run", "--model", tiny.base, "--data", tiny.items, "--out", out, *SETTINGS)
    shown = " ".join(capsys.readouterr().out.split())
    assert "generate, 16 at once: it wrote the replies that are kept" in shown
    result = read_result(out)
    assert result["speed"]["resumed_replies"] == 3
    assert result["engines"]["answered"] == ["generate"]
    assert replies(out) == replies(base_result)


ROLLING = """\
task: perplexity_of_questions
dataset_path: json
dataset_name: null
dataset_kwargs: {{data_files: {{test: {items}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{question}}}}"
metric_list: [{{metric: word_perplexity}}]
"""


def test_a_task_that_is_scored_goes_with_one_that_is_answered(tiny, base_result, tmp_path):
    (tmp_path / "rolling.yaml").write_text(ROLLING.format(items=tiny.items))
    out = tmp_path / "mixed.json"
    words = ("--model", tiny.base, "--data", tiny.items, "--out", out, "--include_path", tmp_path)
    command("run", *words, "--task", "gsm8k_xml,perplexity_of_questions", *SETTINGS)
    mixed = read_result(out)
    assert set(mixed["tasks"]) == {"gsm8k_xml", "perplexity_of_questions"}
    ours = mixed["tasks"]["gsm8k_xml"]
    assert ours["items"] == read_result(base_result)["tasks"]["gsm8k_xml"]["items"]
    assert mixed["batch_check"] == {"items": 4, "identical": 4}
