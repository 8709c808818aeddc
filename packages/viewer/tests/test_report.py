import io
import json
import re
import shutil
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import Console

from finished_runs import finished
from xmlgrpo_evaluator.results.compare import compare_results
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.reply import FORMAT_VERSION
from xmlgrpo_run.files import write_sealed
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import HeldOut, read_manifest
from xmlgrpo_run.measures.summary import metrics_of
from xmlgrpo_viewer.page.assets import environment
from xmlgrpo_viewer.page.report import marked, render, write_report
from xmlgrpo_viewer.page.settings import changed_settings, cost_and_environment
from xmlgrpo_viewer.page.summary import left_s
from xmlgrpo_viewer.reading.run_view import read_run
from xmlgrpo_viewer.reading.same_problems import followed
from xmlgrpo_viewer.watch.screen import screen

from .conftest import WRONG, answers, begin, completion, end, held, write_lines

HOSTILE = "</pre></script><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}<!--"
UNGRADED = {key: value for key, value in completion(1).items() if "correct" not in key}
STEERING = "\x1b[31m\x1b]8;;http://x\x07\u202e\u2066\x9b"


class Page(HTMLParser):
    """What a browser would see: the tags with their attributes, the text, and the page's data."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(html)
        self.data = json.loads(self.scripts[0])

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._in_script = False

    def handle_data(self, data):
        if self._in_script:
            self.scripts[-1] += data
        else:
            self.text += data


def page_of(run: RunFolder) -> Page:
    return Page(render(read_run(run)))


def result(label: str, right: list[bool], text: str) -> dict[str, Any]:
    items = [
        {
            "id": f"i{n}",
            "question": text,
            "gold": text,
            "replies": [f"{text}{ok}"],
            "scores": {"strict_accuracy": float(ok)},
        }
        for n, ok in enumerate(right)
    ]
    return {
        "format": 1,
        "label": label,
        "subject": {"limit": None, "seed": 0},
        "prompts": {"passed": True, "digest": "d", "compared": 2, "identical": 2},
        "batch_check": None,
        "tasks": {"t": {"metrics": metrics_of(items), "items": items}},
    }


def test_the_result_stands_first_with_its_interval(run):
    page = page_of(run)
    assert "0.0% of 8 held-out problems were right in the asked form before training" in page.text
    assert "75.0% after it: +75.0 points [+18.9, +100.0], p = 0.031" in page.text
    assert "75.0% [40.9%, 92.9%]" in page.text
    assert "strict accuracy (form and number)" in page.text
    lenient = r"lenient accuracy \(number, any form\)\s*12\.5% \[[^]]*\]\s*87\.5%"
    assert re.search(lenient, page.text)
    assert "6 gained" in page.text
    assert "Not evaluated yet: make eval RUN=" in page.text


def test_a_number_with_an_exponent_stays_on_one_line():
    written = environment().from_string("{{ text|whole }}").render(text="p = 4.3e-07 <b>")
    assert written == 'p = <span class="whole">4.3e-07</span> &lt;b&gt;'


def test_everything_hostile_is_text(tmp_path):
    text = HOSTILE + STEERING
    run = begin(tmp_path / "x", before=[True, False])
    logged = [{"step": n, f"rewards/{text}/mean": n, "reward": -n} for n in range(3)]
    write_lines(run.metrics, logged)
    rows = [completion(1, text, question=text, gold=text, scores={text: 1.0}, note=text)]
    write_lines(run.completions_of(1), rows)
    end(run, [False, True], task=text, versions={"torch": text}, dirty=True)
    both = [result("base", [True, False], text), result(text, [False, True], text)]
    write_sealed(run.eval / "tuned.json", both[1])
    write_sealed(run.eval / "compare.json", compare_results(*both))
    page = page_of(run)
    assert page.text.count(HOSTILE) >= 5
    assert page.data["completions"][0]["text"].startswith(HOSTILE)
    assert len(page.scripts) == 3, "the data, the library and ours"
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "img" not in {tag for tag, _ in page.tags}
    shown = page.text + page.data["completions"][0]["text"] + page.data["completions"][0]["note"]
    shown += json.dumps(page.data["charts"], ensure_ascii=False)
    assert not re.search("[\x07\x1b\u202e\u2066\x9b]", shown)


def test_the_page_needs_nothing_beside_it_and_runs_no_other_script(run):
    write_report(run)
    page = Page(run.report.read_text(encoding="utf-8"))
    assert [a for tag, a in page.tags if "src" in a or tag == "link"] == []
    links = [a["href"] for _, a in page.tags if a.get("href")]
    assert links
    assert all(re.fullmatch(r"#\w+|[\w./-]+", str(link)) for link in links), "only into the run"
    [policy] = [a["content"] for tag, a in page.tags if a.get("http-equiv")]
    assert re.fullmatch(
        r"default-src 'none'; style-src 'unsafe-inline'; script-src('? ?'sha256-[\w+/=]+'){2}; "
        r"img-src data:",
        str(policy),
    )


def test_charts_have_bands_stacks_and_the_numbers_behind_them(run):
    page = page_of(run)
    assert [a.get("data-chart") for _, a in page.tags if a.get("class") == "plot"][:2] == ["0", "1"]
    held_out, parts = page.data["charts"][0], page.data["charts"][1]
    assert held_out["xs"] == [0, 3, 6]
    strict = held_out["lines"][0]
    assert strict["values"] == [0.0, 0.375, 0.75]
    assert [round(v, 3) for v in strict["high"]] == [0.324, 0.694, 0.929]
    assert parts["kind"] == "stack"
    assert parts["lines"][0]["values"][-1] == pytest.approx(0.3)
    assert parts["lines"][1]["values"][-1] == pytest.approx(0.6), "on top of the first"
    assert parts["lines"][1]["own"][-1] == pytest.approx(0.3)
    assert "75.0% [40.9%, 92.9%]" in page.text


def test_a_reward_is_drawn_and_said_with_its_weight(tmp_path):
    run = begin(tmp_path / "sums", settings="rewards:\n  correctness_reward_func: 0.5\n")
    parts = page_of(run).data["charts"][1]
    assert parts["lines"][0]["values"][-1] == pytest.approx(0.15)
    console = Console(file=io.StringIO(), width=80)
    console.print(screen(read_run(run), 80, 24))
    assert "paid correctness 0.09" in console.file.getvalue()  # type: ignore[attr-defined]


def test_the_time_of_a_step_is_shown_by_part_where_it_was_logged(training):
    rows = [
        {"step": step, "step_time": 2.0, "rollout_time": 1.5, "peak_mib": 900.0} for step in (1, 2)
    ]
    write_lines(training.metrics, rows)
    time, memory = page_of(training).data["charts"][-3:-1]  # the last is of lengths
    assert [(line["label"], line["own"][0]) for line in time["lines"]] == [
        ("completions drawn", 1.5),
        ("rewards and update", 0.5),
    ]
    assert memory["lines"][0]["values"] == [900.0, 900.0]


def test_a_run_that_trains_has_a_page_that_reads_itself_again(training):
    with held(training):
        html = render(read_run(training))
    page = Page(html)
    assert "training" in page.text
    assert "Step 6 of 10, 0:00:08 left. Validation at step 6: 75.0% [40.9%, 92.9%]" in page.text
    assert 'data-refresh="30"' in html
    stopped = render(read_run(training))
    assert "stopped" in Page(stopped).text
    assert "data-refresh" not in stopped


def test_the_hours_before_a_run_was_continued_are_no_steps(training):
    rows = [{"step": n, "time": 1e9 + 2 * n + (36_000 if n > 4 else 0)} for n in range(1, 7)]
    write_lines(training.metrics, rows)
    assert left_s(read_run(training)) == 8  # 4 steps of 2 s


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("metrics.jsonl", '{"step": 1, "reward": 1}\n{"step": 2, "rew', ""),
        ("metrics.jsonl", "", ""),
        ("config.yaml", "task: [", "config.yaml"),
        ("config.yaml", "tusk: gsm8k\n", "tusk"),
        ("holdout/validation-00003.json", '{"step": 3, "items": [', "validation-00003.json"),
        ("holdout/report-before.json", "{}", "report-before.json"),
        ("completions/step-00002.jsonl", '{"step": 2, "question"', "step-00002.jsonl"),
        ("completions/step-00002.jsonl", '{"step": "2"}\n', "step-00002.jsonl:1"),
        ("resolved.json", "[]", "resolved.json"),
        ("resolved.json", '{"grpo": [1]}', ""),
        ("resolved.json", '{"grpo": {"max_steps": true}}', ""),
    ],
)
def test_half_of_a_file_is_left_out_and_named(training, file, content, named):
    (training.root / file).write_text(content)
    page = page_of(training)
    left_out = [part for part in page.text.split("\n") if part.startswith("Left out: ")]
    assert [named in part for part in left_out] == ([True] if named else [])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (
            "metrics.jsonl",
            '{"step": 1, "time": 1e60, "step_time": 1e99}\n{"step": 2, "time": 2e60}',
        ),
        ("metrics.jsonl", '{"step": 1, "time": 1}\n{"step": 2, "time": 9}'),  # for 1e18 steps
        ("metrics.jsonl", '{"step": 1, "reward": "a", "grad_norm": null}'),
        ("completions/step-00001.jsonl", json.dumps({**completion(1), "gold": "g"})),
        ("completions/step-00001.jsonl", json.dumps({**UNGRADED, "gold": "no number"})),
        ("completions/step-00001.jsonl", json.dumps({**completion(10**30), "scores": {"a": 1e99}})),
        ("ended.json", '{"why": "\\u001b[31m<script>"}'),
        ("ended.json", "[1]"),
    ],
)
def test_values_that_no_run_writes_are_no_traceback(training, file, content):
    training.resolved.write_text('{"grpo": {"max_steps": 1000000000000000000}}')
    (training.root / file).write_text(content + "\n")
    with held(training):
        assert "sums" in page_of(training).text


@pytest.mark.parametrize(
    "name",
    [
        "config.yaml",
        "metrics.jsonl",
        "holdout/report-after.json",
        "manifest.json",
        "completions/step-00002.jsonl",
    ],
)
def test_what_has_changed_since_training_is_refused(run, name):
    render(read_run(run))
    path = run.root / name
    path.write_text(path.read_text().replace("8", "9").replace("2", "3"))
    with pytest.raises(UserError, match=name):
        render(read_run(run))


def test_grades_of_another_version_are_called_so(run):
    assert "Graded by version" not in page_of(run).text
    finished(run, "google/gemma-3-1b-it", format_version=FORMAT_VERSION - 1)
    assert f"Graded by version {FORMAT_VERSION - 1} of the reply form" in page_of(run).text


def test_completions_that_were_added_are_refused_and_lost_ones_are_named(run):
    run.completions_of(2).unlink()
    assert "Left out: 1 of 6 files of completions that training left" in page_of(run).text
    write_lines(run.completions_of(7), [completion(7)])
    with pytest.raises(UserError, match=r"step-00007\.jsonl was not there after training"):
        render(read_run(run))


def test_lost_files_of_a_folder_are_one_sentence(run):
    for step in (0, 3):
        run.validation(step).unlink()
    assert read_run(run).unread == (f"2 files of {run.holdout}, which training left, are gone",)
    run.config.unlink()
    assert f"{run.config}, which training left, is gone" in read_run(run).unread


def test_without_the_replies_the_shares_are_those_that_were_logged(run):
    rows = [{"step": step, "validation/strict_accuracy": step / 10} for step in (0, 3, 6)]
    with run.metrics.open("a") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    shutil.rmtree(run.holdout)
    run.manifest.unlink()
    page = page_of(run)
    assert "Validation at step 6: 60.0% right in the asked form, 0.0% at step 0." in page.text
    assert page.data["charts"][0]["lines"][0]["values"] == [0.0, 0.3, 0.6]


def test_without_the_replies_the_result_is_the_manifests(training):
    shares = [{"strict_accuracy": {"hits": hits, "total": 8}} for hits in (0, 6)]
    end(training, [True] * 8, holdout=HeldOut(8, *shares))
    shutil.rmtree(training.holdout)
    assert "training, 75.0% [40.9%, 92.9%] after it." in page_of(training).text


def test_a_run_of_another_version_is_shown_as_far_as_it_is_understood(run):
    manifest = json.loads(run.manifest.read_text())
    run.manifest.write_text(json.dumps({"format": 1, "run": manifest["run"]}))
    page = page_of(run)
    assert "expected format 3, got 1" in page.text
    assert "75.0% after it" in page.text


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "note.txt").write_text("")
    with pytest.raises(UserError, match=r"is not a run: it has no config\.yaml"):
        write_report(RunFolder(tmp_path))


def test_wrong_completions_that_earned_most_come_first_and_others_are_a_sample(training):
    for step in range(1, 60):
        rows = [completion(step, f"{n} " + "x" * 3_000) for n in range(40)]
        write_lines(training.completions_of(step), rows)
    gamed = completion(7, WRONG, strict_correct=False, lenient_correct=False)
    write_lines(training.completions_of(7), [gamed])
    html = render(read_run(training))
    page = Page(html)
    assert len(html) < 5_000_000
    assert page.data["completions"][0]["outcome"] == "wrong"
    assert page.data["completions"][0]["pay"] == 2.0
    assert page.data["completions"][0]["scores"] == [2.0, None]
    steps = {row["step"] for row in page.data["completions"]}
    assert min(steps) == 1
    assert max(steps) == 59
    assert re.search(r"of the 2,321 that the run kept: the 1 wrong ones", page.text)


@pytest.mark.parametrize("letter", ["数", "<", "\n", '"', "🂡", "\ud800"])
def test_a_page_stays_small_whatever_its_completions_are_written_in(training, letter):
    is_wrong = {"strict_correct": False, "lenient_correct": False}
    for step in range(1, 60):
        rows = [completion(step, letter * 6_000, **is_wrong) for _ in range(10)]
        path = training.completions_of(step)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_report(training)
    assert training.report.stat().st_size < 5_000_000


def test_ten_thousand_steps_are_thinned_and_say_so(training):
    rows = [{"step": n, "reward": float(n), "entropy": 0.5} for n in range(1, 10_001)]
    write_lines(training.metrics, rows)
    page = page_of(training)
    [entropy] = [
        c for c in page.data["charts"] if c["lines"][0]["label"] == "of the policy's draws"
    ]
    assert len(entropy["xs"]) <= 600
    assert entropy["xs"][-1] == 10_000
    assert "Each point is the mean of 17 steps" in page.text


def test_thinned_lines_have_the_same_steps_where_one_of_them_has_a_gap(training):
    both = {"rewards/a/mean": 0.5, "rewards/b/mean": 0.5}
    rows = [{"step": n, **both} for n in range(1, 1001)]
    del rows[6]["rewards/b/mean"]
    write_lines(training.metrics, rows)
    [parts] = [c for c in page_of(training).data["charts"] if c["kind"] == "stack"]
    assert parts["xs"] == list(range(2, 1001, 2))
    assert [line["values"] for line in parts["lines"]] == [[0.5] * 500, [1.0] * 500]


def test_many_long_replies_of_a_followed_problem_leave_the_page_small(training):
    for step in range(100, 240):
        words = " ".join(f"{step * n}" for n in range(1200))
        write_sealed(training.validation(step), answers(step, [True] * 3, reply=words))
    html = render(read_run(training))
    assert len(html) < 2_000_000
    assert "the first and the newest 29 are shown" in html
    assert "step 239: " in html


def test_texts_of_other_scripts_and_long_names_are_shown_whole(tmp_path):
    run = begin(tmp_path / "运行-اختبار")
    rows = [completion(1, "答案是五 إجابة", question="小明有五个苹果。كم؟")]
    write_lines(run.completions_of(1), rows)
    page = page_of(run)
    assert "运行-اختبار" in page.text
    assert page.data["completions"][0]["question"] == "小明有五个苹果。كم؟"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("a b c", "a x c", "a <mark>x</mark> c"),
        ("a b c", "a b c", "a b c"),
        ("one", "entirely other <b>", "entirely other &lt;b&gt;"),
        ("2 + 3 = 5", "2 + 3 = 6", "2 + 3 = <mark>6</mark>"),
        ("", "x", "x"),
    ],
)
def test_differences_are_marked_by_words(first, second, expected):
    assert marked(first, second) == expected


@pytest.mark.parametrize("reply", ["1 " * 3_000, "the the, " * 700, "x\n" * 3_000])
def test_a_reply_of_one_word_again_and_again_is_not_compared(reply):
    """It would take minutes."""
    assert "<mark>" not in marked("1 2 the x\n" * 600, reply)


def test_settings_that_differ_from_the_defaults_are_listed(tmp_path):
    run = begin(tmp_path / "sums")
    grpo = {"learning_rate": 1e-4, "temperature": 1.0, "beta": 0.1, "num_generations": 8}
    end(run, [True] * 8, config={"seed": 3, "grpo": grpo})
    assert changed_settings(read_run(run)) == [
        ("seed", "3", "0"),
        ("grpo.learning_rate", "0.0001", "1e-05"),  # ours, not trl's
        ("grpo.beta", "0.1", "0"),  # trl's
    ]
    assert re.search(r"grpo\.learning_rate\s*0\.0001\s*1e-05", page_of(run).text)


def test_the_cost_of_a_run_on_gpus(training):
    rows = [
        {"step": n, "time": 60.0 * n, "grad_norm": 0.1, "peak_mib": 1000.0 * n, "energy_j": 1.8e6}
        for n in (1, 2)
    ]
    write_lines(training.metrics, rows)
    hardware = {"device": "NVIDIA H200", "processes": 2}
    end(training, [True] * 8, hardware=hardware, seconds=360.0, rollout="graph, int8 weights")
    cost = dict(cost_and_environment(read_run(training)))
    assert cost["GPU-hours in steps"] == "0.2"
    assert cost["energy of the GPUs"] == "1 kWh"
    assert cost["completions drawn by"] == "graph, int8 weights"
    assert cost["peak memory of a GPU"] == "2,000 MiB"
    del rows[1]["energy_j"]
    training.manifest.unlink()
    write_lines(training.metrics, rows)
    assert dict(cost_and_environment(read_run(training)))["energy of the GPUs"] == "not told"


def planted(run: RunFolder, pay_of_wrong: float) -> RunFolder:
    """Its last step has as many right completions, paid 2, as wrong ones, paid otherwise."""
    right = [completion(6, scores={"sums": 2.0})] * 5
    is_wrong = {"strict_correct": False, "lenient_correct": False}
    wrong = [completion(6, WRONG, scores={"sums": pay_of_wrong}, **is_wrong)] * 5
    write_lines(run.completions_of(6), right + wrong)
    return run


def test_a_reward_that_pays_wrong_answers_is_told_before_the_tables(training):
    page = page_of(planted(training, 2.0))
    first = page.text.partition("What the doctor says")[0]
    assert "5 of 5 wrong completions (100%) earned what right ones earn, 2 or more." in first
    assert "A reward that pays wrong answers teaches them" in first
    assert WRONG in first, "one of them, whole"
    assert re.search(r"sums\s*1\s*2\s*2\s*", page.text), "what each reward paid"
    page = page_of(planted(training, 0.5))
    assert "0 of 5 wrong completions (0%) earned what right ones earn, 2 or more." in page.text
    assert "teaches them" not in page.text


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        ('{"why": "loss is nan at step 7"}', "loss is nan at step 7. What was trained is not kept"),
        (None, "it was killed, or left no word"),
        ('{"why', "it was killed, or left no word"),
    ],
)
def test_a_stopped_run_says_why_as_far_as_it_is_known(training, ended, words):
    if ended:
        training.ended.write_text(ended)
    assert words in page_of(training).text
    with held(training):
        assert "has not come to its end" not in page_of(training).text


def test_every_link_leads_to_a_file_of_the_run(run):
    names = {a["href"] for _, a in page_of(run).tags if a.get("href")}
    there = {name for name in names if not str(name).startswith("#")}
    assert {"metrics.jsonl", "manifest.json", "config.yaml", "holdout/", "completions/"} <= there
    assert [name for name in there if not (run.root / str(name)).exists()] == []
    shown = page_of(run).data["completions"]
    assert {row["file"] for row in shown} == {
        f"completions/step-{n:05d}.jsonl" for n in range(1, 7)
    }


def test_followed_problems_are_the_first_ones_with_each_new_reply_once(training):
    [always, _, later] = followed(read_run(training))
    assert [(one.steps, one.answer.outcome) for one in always.stretches] == [
        ("step 0", "wrong"),
        ("step 3 to 6", "right"),
    ]
    assert [answer.outcome for answer in later.answers] == ["wrong", "right", "right"]


def test_accuracy_by_difficulty_counts_the_steps_of_the_solutions(run):
    rows = [
        {"id": f"held-out:{n}", "question": "q", "answer": "a = 1\n" * (n // 4 + 1) + "#### 5"}
        for n in range(8)
    ]
    write_lines(run.holdout_items, rows)
    end(run, [n < 6 for n in range(8)])
    text = page_of(run).text.partition("By difficulty")[2].partition("By difficulty")[2]
    assert re.search(r"1\s*4\s*0\.0%.*100\.0%", text)
    assert re.search(r"2 or more\s*4\s*0\.0%.*50\.0%", text)
    write_lines(run.holdout_items, [{**row, "answer": "a = 1\n#### 5"} for row in rows])
    end(run, [n < 6 for n in range(8)])
    assert "By difficulty" not in page_of(run).text, "all are alike"


def test_a_base_in_a_folder_is_called_by_the_folders_name(run):
    header = page_of(run).text.partition("Result")[0]
    assert read_manifest(run).base.name.rpartition("/")[2] in header
    assert str(run.root.parent) not in header


def test_the_files_on_the_page_name_no_folder_of_this_machine(run):
    base = read_manifest(run).base.name
    assert base.startswith("/")
    page = page_of(run)
    assert base.rpartition("/")[2] in page.text
    assert base not in page.text
