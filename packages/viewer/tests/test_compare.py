import io
import json
import random
import re
from statistics import fmean

import pytest
from rich.console import Console

from finished_runs import data_of
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.reply import FORMAT_VERSION
from xmlgrpo_run.files import SEAL, write_sealed, write_text
from xmlgrpo_viewer.compare.compared import as_json, compare_runs
from xmlgrpo_viewer.compare.show import page, place_of, show
from xmlgrpo_viewer.compare.statistics import holm, seeds_interval

from .conftest import answers, begin, end, write_lines
from .test_report import Page


@pytest.fixture
def runs(tmp_path):
    """Two seeds of one configuration, and another learning rate."""
    made = []
    for name, right, seed, rate in (("a-0", 6, 0, 1e-4), ("a-1", 7, 1, 1e-4), ("b", 3, 0, 1e-5)):
        run = begin(tmp_path / name)
        config = {"seed": seed, "grpo": {"learning_rate": rate}}
        end(run, [n < right for n in range(8)], config=config, seed=seed)
        made.append(run)
    return made


def test_sides_pairs_and_groups(runs):
    found = as_json(compare_runs(runs))
    assert [(side["name"], side["hits"]) for side in found["sides"]] == [
        ("base", 0),
        ("a-0", 6),
        ("a-1", 7),
        ("b", 3),
    ]
    [pair] = [p for p in found["pairs"] if (p["first"], p["second"]) == ("a-0", "b")]
    assert (pair["gained"], pair["lost"], pair["p"]) == (0, 3, 0.25)
    assert len(found["pairs"]) == 6
    [group, alone] = found["groups"]
    assert group["runs"] == ["a-0", "a-1"]
    assert group["mean"] == pytest.approx(13 / 16)
    assert (group["lowest"], group["highest"]) == (0.75, 0.875)
    assert alone["runs"] == ["b"]
    assert found["differing"]["seed"] == ["0", "1", "0"]
    assert found["differing"]["grpo.learning_rate"] == ["0.0001", "0.0001", "1e-05"]


def test_a_comparison_is_shown_and_is_a_page(runs):
    compared = compare_runs(runs)
    console = Console(file=io.StringIO(), width=100)
    show(compared, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "8 held-out problems" in printed
    assert "a-0, a-1" in printed
    assert "GPU-hour" not in printed, "nothing was run on one"
    runs[0].report.write_text("")
    html = page(compared, runs[0].root.parent / "comparisons" / "page.html")
    shown = Page(html)
    links = [attributes["href"] for tag, attributes in shown.tags if tag == "a"]
    assert list(dict.fromkeys(links)) == [
        "../a-0/report.html",
        "../a-1/manifest.json",
        "../b/manifest.json",
    ]
    assert "a-0 to b" in shown.text
    assert shown.data["charts"][0]["lines"][2]["label"] == "b"
    captions = shown.text.count("Each pair on the same problems"), html.count("<caption>")
    assert captions == (1, 4), "each table says what it is"
    json.dumps(as_json(compared), allow_nan=False)


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_no_figure_of_a_comparison_is_on_two_lines(runs, columns):
    compared = compare_runs(runs)
    console = Console(file=io.StringIO(), width=columns, force_terminal=True, color_system=None)
    show(compared, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, printed.split("\n"))) <= columns
    for pair in compared.pairs:
        assert str(pair.difference) in printed
    for figure in ("75.0% to 87.5%", "a-0, a-1", "1e-05", "0.0% [0.0%, 32.4%]"):
        assert figure in printed


def test_pages_of_many_runs_have_a_place_each_that_can_be_written(tmp_path):
    seeds = [[f"tiny-seed{n}" for n in range(count)] for count in (9, 10)]
    places = [place_of(names, tmp_path) for names in (*seeds, ["运行" * 40, "اختبار"], ["a", "b"])]
    for place in places:
        write_text(place, "page")
    assert len(set(places)) == 4
    assert places[-1].name == "compare-a-b.html"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"task": "other"}, r"other task \(gsm8k and other\); compare runs of one task$"),
        ({"max_reply_tokens": 99}, r"other length limit \(80 and 99\); evaluate both on"),
        (
            {"format_version": 1},
            rf"other reply form \({FORMAT_VERSION} and 1\); train both with one version",
        ),
    ],
)
def test_what_was_asked_otherwise_is_refused(tmp_path, changes, what):
    one, other = begin(tmp_path / "a"), begin(tmp_path / "b")
    end(one, [True] * 8)
    end(other, [True] * 8, **changes)
    with pytest.raises(UserError, match=what):
        compare_runs([one, other])


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        pytest.param("hub", r".*: \.venv/bin/xmlgrpo-eval compare .*json ", id="a-test-split"),
        pytest.param("generated", "train both with the same data.seed, as make seeds", id="none"),
    ],
)
def test_other_problems_are_refused(tmp_path, source, advice):
    one, other = begin(tmp_path / "a"), begin(tmp_path / "b")
    end(one, [True] * 8, data=data_of(source=source))
    write_sealed(other.holdout_after, answers(60, [True] * 8, question="another"))
    end(other, [True] * 7, data=data_of(source=source))
    with pytest.raises(
        UserError, match=rf"a and .*b are not comparable: .* other problems; {advice}"
    ):
        compare_runs([one, other])


def test_one_run_an_unfinished_one_and_one_twice_are_refused(runs, tmp_path):
    with pytest.raises(UserError, match="two runs or more"):
        compare_runs(runs[:1])
    with pytest.raises(UserError, match="named twice"):
        compare_runs([runs[0], runs[1], runs[0]])
    with pytest.raises(UserError, match="c cannot be compared: its training is not finished"):
        compare_runs([runs[0], begin(tmp_path / "c")])
    runs[1].holdout_after.unlink()
    with pytest.raises(
        UserError, match=r"a-1 cannot be compared: .*report-after\.json, which training left"
    ):
        compare_runs(runs)


@pytest.mark.parametrize("name", ["identity", "config", "metrics", "resolved"])
def test_what_is_gone_beside_the_replies_is_told(runs, name):
    gone = getattr(runs[1], name)
    gone.unlink()
    [note] = compare_runs(runs).notes
    assert note == f"{gone}, which training left, is gone, and was not checked"


def test_a_comparison_rests_on_replies_that_the_manifest_vouches_for(runs):
    stored = json.loads(runs[2].manifest.read_text("utf-8"))
    del stored["files"]["identity.json"]
    write_sealed(runs[2].manifest, {k: v for k, v in stored.items() if k != SEAL})
    [note] = compare_runs(runs).notes
    assert note.startswith(f"{runs[2].manifest} has no hash of identity.json: ")
    del stored["files"]["holdout/report-after.json"]
    write_sealed(runs[2].manifest, {k: v for k, v in stored.items() if k != SEAL})
    with pytest.raises(UserError, match=r"report-after\.json was not there after training"):
        compare_runs(runs)


def test_other_bases_are_not_called_the_base(runs, tmp_path):
    other = begin(tmp_path / "c", before=[True] * 8)
    end(other, [True] * 8)
    found = compare_runs([runs[0], other])
    assert [side.name for side in found.sides] == ["a-0", "c"]
    assert "bases that answer differently" in found.notes[0]


@pytest.mark.parametrize(
    ("given", "adjusted"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5], [0.5]),
        ([0.6, 0.9], [1.0, 1.0]),
        ([], []),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holm_by_hand(given, adjusted):
    assert holm(given) == pytest.approx(adjusted)


def test_the_interval_of_seeds_is_that_of_a_plain_bootstrap():
    source = random.Random(5)  # noqa: S311 - draws, no secrets
    base = [source.random() < 0.2 for _ in range(200)]
    seeds = [[source.random() < p for _ in range(200)] for p in (0.3, 0.4, 0.5)]
    found = seeds_interval(seeds, base)
    draws = []
    for _ in range(2000):
        rows = [source.choice(seeds) for _ in seeds]
        items = [source.randrange(200) for _ in base]
        draws.append(fmean(fmean(r[i] for r in rows) - base[i] for i in items))
    draws.sort()
    assert found.value == pytest.approx(fmean(fmean(s) for s in seeds) - fmean(base))
    assert found.low == pytest.approx(draws[50], abs=0.02)
    assert found.high == pytest.approx(draws[-51], abs=0.02)
    assert found == seeds_interval(seeds, base)


def test_what_was_gained_per_gpu_hour_and_the_energy(runs):
    hardware = {"device": "NVIDIA H200", "processes": 1}
    for run, joules in zip(runs, (3.6e6, 7.2e6, None), strict=True):
        rows = [{"step": 1, "grad_norm": 0.1, **({"energy_j": joules} if joules else {})}]
        write_lines(run.metrics, rows)
        write_sealed(run.holdout_before, answers(0, [n < 2 for n in range(8)]))
        end(run, [True] * 8, hardware=hardware, seconds=900.0)
    compared = compare_runs(runs)
    sides = as_json(compared)["sides"]
    assert [side["gpu_hours"] for side in sides] == [None, 0.25, 0.25, 0.25]
    assert [side["energy_kwh"] for side in sides] == [None, 1.0, 2.0, None]
    text = Page(page(compared, runs[0].root / "page.html")).text
    cells = r"a-0", r"100\.0% \[67\.6%, 100\.0%\]", r"\+300\.0 points", r"0\.25", "1", "0:15:00"
    assert re.search(r"\s*".join(cells), text)


def test_one_seed_twice_is_told(runs):
    assert compare_runs(runs).notes == ()
    config = {"seed": 0, "grpo": {"learning_rate": 1e-4}}
    end(runs[1], [n < 7 for n in range(8)], config=config, seed=0)
    compared = compare_runs(runs)
    [note] = compared.notes
    assert note.endswith("a-1: they say nothing about seeds")
    shown = Page(page(compared, runs[0].root.parent / "page.html"))
    assert "the seed is 0 in all of a-0, a-1: they say nothing" in shown.text
    assert str(runs[0].root.parent) not in shown.text, "a folder of this machine"
