import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from xmlgrpo_evaluator.results.report import render, write_report

from xmlgrpo_evaluator.results.compare import compare_results
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import write_json
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import read_manifest

from ..conftest import finish, write_rows
from .test_compare import result

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}"


class Page(HTMLParser):
    """What a browser would see: the tags with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "sums")
    finish_again(folder)
    return folder


def finish_again(run: RunFolder) -> None:
    """Let training end with the files that are there now."""
    finish(run, run.root.parent / HOSTILE.replace("/", ""))


def curves_of(html: str) -> str:
    return html[html.index("<svg") : html.index("</svg>")]


def test_a_run_with_training_results_only(run):
    page = Page(render(run))
    assert "Before and after" in page.text
    assert "25.0% [8.9%, 53.2%]" in page.text
    assert "Not evaluated yet" in page.text
    assert "No metrics were logged" in page.text


def test_everything_hostile_is_text(run):
    run.config.write_text(f"name: {HOSTILE}")
    logged = [{"step": n, f"rewards/{HOSTILE}/mean": n, "reward": -n} for n in range(3)]
    write_rows(run.metrics, logged)
    finish_again(run)
    row = {"question": HOSTILE, "gold": HOSTILE, "completion": HOSTILE, "scores": {HOSTILE: 1.0}}
    write_rows(run.completions_of(10), [row])
    first, second = result(HOSTILE, [True, False]), result("tuned", [False, True])
    for item in second["tasks"]["t"]["items"]:
        item["replies"], item["question"] = [HOSTILE], "same"
    for item in first["tasks"]["t"]["items"]:
        item["question"] = "same"
    write_json(run.eval / "compare.json", compare_results(first, second))
    page = Page(render(run))
    assert page.text.count(HOSTILE) >= 8
    tags = {tag for tag, _ in page.tags}
    assert "script" not in tags
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_the_page_needs_nothing_beside_it_and_its_curves_have_its_colours(run):
    rows = [{"step": n, "reward": n / 2, "validation/strict_accuracy": n / 9} for n in range(5)]
    write_rows(run.metrics, rows)
    finish_again(run)
    write_report(run)
    html = run.report.read_text(encoding="utf-8")
    page = Page(html)
    links = [a[name] for _, a in page.tags for name in ("src", "href") if name in a]
    assert links == []
    assert "svg" in {tag for tag, _ in page.tags}
    policies = [a["content"] for tag, a in page.tags if "http-equiv" in a]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert "Validation problems" in page.text
    assert "stroke: var(--line-3)" in html
    assert "fill: var(--text)" in html
    drawn = curves_of(html)
    assert not re.search(r"#(?:ffffff|000000|0[1-9]0)", drawn)


def test_figures_have_readable_names_and_a_change(run):
    text = Page(render(run)).text
    assert "strict accuracy (form and number)" in text
    assert "+50.0 points" in text
    assert "strict_accuracy" not in text.partition("Settings")[0]


def test_a_base_in_a_folder_is_called_by_the_folders_name(run):
    header = Page(render(run)).text.partition("Before and after")[0]
    assert Path(read_manifest(run).base.name).name in header
    assert str(run.root.parent) not in header


def test_equal_replies_are_shown_once(run):
    scores = {"correctness_reward_func": 2.0, "mine:fits": None}
    texts = ["same", "same", "other", "same"]
    rows = [{"question": "q", "gold": "1", "completion": t, "scores": scores} for t in texts]
    write_rows(run.completions_of(10), rows)
    text = Page(render(run)).text
    assert text.count("same") == 1
    assert text.count("other") == 1
    assert "drawn 3 times of 4; correctness 2, fits None" in text


def test_after_a_resume_the_last_line_of_a_step_counts(run):
    lines = ['{"step": 1, "reward": 1}', '{"step": 2, "reward": 2}', '{"step": 1, "reward": 9}']
    run.metrics.write_text("\n".join([*lines[1:], '{"step": 3, "rew']))
    finish_again(run)
    once = curves_of(render(run))
    run.metrics.write_text("\n".join([*lines, '{"step": 3, "rew']))
    finish_again(run)
    assert curves_of(render(run)) == once


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl"])
def test_what_has_changed_since_training_is_refused(run, name):
    write_rows(run.metrics, [{"step": 1, "reward": 0.5}])
    run.config.write_text("seed: 1\n")
    finish_again(run)
    render(run)
    (run.root / name).write_text((run.root / name).read_text().replace("1", "2"))
    with pytest.raises(UserError, match=f"{name} is damaged or was changed"):
        render(run)


def test_an_unfinished_run_is_refused(tmp_path):
    folder = RunFolder(tmp_path)
    folder.config.write_text("")
    with pytest.raises(UserError, match="training has not finished"):
        write_report(folder)
