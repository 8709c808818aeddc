"""The page in a real browser, headless: it draws, asks for nothing, and can be read by everyone."""

import json
import re
import shutil
import subprocess
from html import unescape
from importlib.resources import files
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from xmlgrpo_viewer.compare.compared import compare_runs
from xmlgrpo_viewer.compare.show import page
from xmlgrpo_viewer.page.report import render
from xmlgrpo_viewer.reading.run_view import read_run

from .conftest import begin, completion, end, held, write_lines

pytestmark = pytest.mark.browser
NAMES = ("chromium", "chromium-browser", "google-chrome")
HOSTILE = (
    "\x1b[31m\u202e</template></pre></script><script>document.title='owned'</script>"
    "<img src=http://a.test/x onerror=alert(1)>"
)
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
PICTURES = Path(__file__).parent / "pictures"  # of the page; one that is removed is made anew
THUMBNAIL = (100, 240)
ALIKE = 2.0  # of 255 on average: other fonts, not another page
SERIOUS = ("serious", "critical")
WIDTH = """<script>
document.querySelector("#list article").focus();
for (let n = 0; n < 2; n++) document.activeElement.dispatchEvent(
  new KeyboardEvent("keydown", { key: "PageDown", bubbles: true }));
document.body.setAttribute("data-at", document.activeElement.getAttribute("aria-posinset"));
document.body.setAttribute("data-width", document.documentElement.scrollWidth);
</script></body>"""
AXE = """<script>%s</script><script>axe.run().then((found) => {
  const kept = found.violations.map((one) => [one.impact, one.id, one.nodes[0].html]);
  document.body.setAttribute("data-axe", JSON.stringify(kept));
});</script></body>"""


@pytest.fixture(scope="session")
def chromium() -> str:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.fail(f"expected a browser, one of {', '.join(NAMES)}: apt-get install chromium")
    return found


def browse(chromium: str, html: str, folder: Path, *options: str) -> tuple[str, str]:
    """Open a page and let its scripts run: the document as it is then, and what was logged."""
    place = folder / "page.html"
    place.write_text(html, encoding="utf-8")
    done = subprocess.run(
        [
            chromium,
            *("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
            *("--virtual-time-budget=8000", f"--user-data-dir={folder / 'profile'}"),
            f"--log-net-log={folder / 'net.json'}",
            *options,
            "--dump-dom",
            place.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout, "\n".join(x for x in done.stderr.split("\n") if "CONSOLE" in x)


@pytest.fixture
def report(tmp_path: Path) -> str:
    run = begin(tmp_path / "sums")
    text = {"question": HOSTILE, "gold": HOSTILE, "scores": {HOSTILE: 1.0}}
    is_wrong = {"strict_correct": False, "lenient_correct": False}
    right, wrong = completion(6, HOSTILE, **text), completion(6, HOSTILE, **text, **is_wrong)
    write_lines(run.completions_of(6), [right] * 5 + [wrong] * 5)  # the reward is gamed
    end(run, [n < 6 for n in range(8)])
    return render(read_run(run))


def test_charts_and_completions_are_drawn_and_nothing_hostile_runs(chromium, report, tmp_path):
    document, logged = browse(chromium, report, tmp_path)
    charts = json.loads(unescape(re.findall(r'id="data">(.*?)</script>', document)[0]))["charts"]
    assert document.count("<canvas") == len(charts) > 5
    legends = re.findall(r'<td class="u-value">([^<]*)</td>', document)
    assert "75.0%" in legends, "the newest values, before a pointer names others"
    assert "--" not in legends
    assert document.count("<article") >= 6
    assert "owned" not in re.findall(r"<title>(.*?)</title>", document)[0]
    assert "15 of 15 shown" in document
    assert "A reward that pays wrong answers teaches them" in document
    assert logged == ""
    assert "a.test" not in (tmp_path / "net.json").read_text()


@pytest.mark.parametrize("width", [360, 1600])
def test_nothing_is_wider_than_the_window(chromium, report, tmp_path, width):
    html = POLICY.sub("", report).replace("</body>", WIDTH)
    document, _ = browse(chromium, html, tmp_path, f"--window-size={width},900")
    [found] = re.findall(r'data-width="(\d+)"', document)
    assert int(found) <= max(width, 500), "headless Chromium is never narrower than 500"
    assert 'data-at="3"' in document, "Page Down goes from one completion to the next"


def serious(chromium: str, html: str, folder: Path, *options: str) -> list[str]:
    """What axe finds in a page and calls serious, by its rules' names."""
    axe = (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
    html = POLICY.sub("", html).replace("</body>", AXE % axe)
    document, _ = browse(chromium, html, folder, *options)
    found = json.loads(unescape(re.findall(r'data-axe="(.*?)"', document)[0]))
    return [name for impact, name, _ in found if impact in SERIOUS]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(chromium, report, tmp_path, scheme):
    dark = ("--blink-settings=preferredColorScheme=0",) if scheme == "dark" else ()
    assert serious(chromium, report, tmp_path, *dark) == []
    faint = report.replace("</main>", '<p style="color:#777;background:#888">faint</p></main>')
    found = serious(chromium, faint, tmp_path, *dark)
    assert found == ["color-contrast"], "what is looked for would be found"


FILTER = """<script>
const seen = [];
for (const [reward, least, most, text] of [["", "", "", ""], ["0", "1", "", ""], ["1", "", "9", ""],
    ["", "", "1.5", ""], ["", "2", "2", "5"]]) {
  Object.entries({ reward, least, most, text }).forEach(([name, value]) => {
    document.getElementById("filter").elements[name].value = value;
  });
  document.getElementById("filter").dispatchEvent(new Event("input"));
  seen.push(document.getElementById("found").textContent);
}
seen.push(document.getElementById("refresh").checked);
document.body.setAttribute("data-seen", seen.join("; "));
</script></body>"""


def test_completions_are_filtered_by_reward_and_text(chromium, tmp_path):
    run = begin(tmp_path / "sums")
    write_lines(run.completions_of(6), [completion(6, "no", scores={"a": 0.5}, gold="7")])
    with held(run):
        html = POLICY.sub("", render(read_run(run))).replace("</body>", FILTER)
    document, logged = browse(chromium, html, tmp_path)
    [seen] = re.findall(r'data-seen="(.*?)"', document)
    assert seen.split("; ") == [
        "6 of 6 shown",
        "5 of 5 shown",  # paid by the first reward at least 1
        "0 of 0 shown",  # the second one had no opinion on any
        "1 of 1 shown",  # all together at most 1.5
        "5 of 5 shown",
        "false",  # it is not read again under the eyes of one who filters
    ]
    assert logged == ""


def photograph(chromium: str, html: str, folder: Path, *options: str) -> Image.Image:
    """The top of a page in so few pixels that fonts and smoothing hardly count."""
    place, shot = folder / "page.html", folder / "shot.png"
    place.write_text(html, encoding="utf-8")
    subprocess.run(
        [
            chromium,
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--virtual-time-budget=8000", f"--user-data-dir={folder / 'profile'}"),
            *("--window-size=1000,2400", f"--screenshot={shot}", *options, place.as_uri()),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    with Image.open(shot) as image:
        return image.convert("L").resize(THUMBNAIL, Image.Resampling.BOX)


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of two pictures' pixels, 0 to 255."""
    return float(ImageStat.Stat(ImageChops.difference(one, other)).mean[0])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_looks_as_it_did(chromium, tmp_path, scheme):
    run = begin(tmp_path / "sums")
    end(run, [n < 6 for n in range(8)])
    html = render(read_run(run))
    dark = ("--blink-settings=preferredColorScheme=0",) if scheme == "dark" else ()
    now = photograph(chromium, html, tmp_path, *dark)
    place = PICTURES / f"report-{scheme}.png"
    if not place.exists():
        PICTURES.mkdir(exist_ok=True)
        now.save(place)
        pytest.fail(f"{place.name} was made anew: look at the page, and commit it")
    with Image.open(place) as then:
        assert difference(now, then) < ALIKE
        unscripted = photograph(chromium, html.replace("draw();", ""), tmp_path, *dark)
        unstyled = photograph(chromium, html.replace("<style>", "<style>@x{"), tmp_path, *dark)
        others = difference(unscripted, then), difference(unstyled, then)

        assert min(others) > 2 * ALIKE, "charts that are not drawn, or no styles, would be seen"


def test_a_page_of_a_run_that_trains_and_one_of_a_comparison_draw(chromium, tmp_path):
    run, other = begin(tmp_path / "a"), begin(tmp_path / "b")
    with held(run):
        document, logged = browse(chromium, render(read_run(run)), tmp_path)
    assert 'data-refresh="30"' in document
    assert document.count("<canvas") > 5
    for one, right in ((run, 3), (other, 6)):
        end(one, [n < right for n in range(8)])
    html = page(compare_runs([run, other]), tmp_path / "page.html")
    document, more = browse(chromium, html, tmp_path)
    assert document.count("<canvas") == 1
    assert logged == more == ""
    assert serious(chromium, html, tmp_path) == []
