import json
from html.parser import HTMLParser

import pytest

from xmlgrpo_evaluator.compare import compare_results
from xmlgrpo_evaluator.report import read_metrics, render, write_report
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.run_folder import RunFolder, write_json

from .conftest import manifest
from .test_compare import result

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}"


class Page(HTMLParser):
    """What a browser would see: the tags with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "sums")
    write_json(folder.manifest, manifest(tmp_path / HOSTILE.replace("/", "")))
    return folder


def test_a_run_with_training_results_only(run):
    page = Page(render(run))
    assert "Before and after" in page.text
    assert "25.0% [8.9%, 53.2%]" in page.text
    assert "Not evaluated yet" in page.text
    assert "No metrics were logged" in page.text


def test_everything_hostile_is_text(run):
    run.config.write_text(f"name: {HOSTILE}")
    completions = run.root / "completions"
    completions.mkdir()
    row = {"question": HOSTILE, "gold": HOSTILE, "completion": HOSTILE, "scores": {HOSTILE: 1.0}}
    (completions / "step-00010.jsonl").write_text(json.dumps(row) + "\n")
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


def test_the_page_needs_nothing_beside_it(run):
    rows = [{"step": n, "reward": n / 2, "kl": 0.0} for n in range(5)]
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_report(run)
    page = Page(run.report.read_text(encoding="utf-8"))
    links = [a[name] for _, a in page.tags for name in ("src", "href") if name in a]
    assert links
    assert all(link.startswith("data:image/png;base64,") for link in links)
    policies = [a["content"] for tag, a in page.tags if "http-equiv" in a]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_after_a_resume_the_last_line_of_a_step_counts(run):
    lines = ['{"step": 1, "reward": 1}', '{"step": 2, "reward": 2}', '{"step": 1, "reward": 9}']
    run.metrics.write_text("\n".join([*lines, '{"step": 3, "rew']))
    assert read_metrics(run.metrics) == [{"step": 1, "reward": 9}, {"step": 2, "reward": 2}]


def test_an_unfinished_run_is_refused(tmp_path):
    folder = RunFolder(tmp_path)
    folder.config.write_text("")
    with pytest.raises(UserError, match="training has not finished"):
        write_report(folder)
