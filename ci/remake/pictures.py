"""The pictures in the README, from a real run: `make pictures`.

The default run is trained once at a pseudo-terminal of 100 columns, in a folder of its own, and
every byte that it writes is kept.  Two moments of that become `docs/pictures/*.svg`: the middle of
the training with its bar, and the end.  A third one is the screen that watched it meanwhile, a
fourth its comparison with a second run.  The run's report is photographed by a headless Chromium.
What was measured on GSM8K is drawn from docs/measured.

    make pictures                        # trains twice first: minutes
    make pictures ARGS="--run outputs/tiny"  # no training: that run's report, and GSM8K's picture
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO, StringIO
from itertools import groupby
from pathlib import Path

import pexpect
import pyte
from PIL import Image
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.style import Style
from rich.text import Text

from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.lock import is_held

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
BIN = Path(sys.executable).parent
COLUMNS, ROWS = 100, 36
LONGEST_S = 3600
WATCHED = re.compile(r"training +step 4\d of 60 +left")  # the moment that is drawn
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
REPORT_PIXELS = (1000, 1500)
LARGEST_BYTES = 300_000
LEARNT = ("unseen", "draws", "equal-time")  # as docs/results.md numbers them
SLOW = "grpo.learning_rate=3e-4"  # of the second run: the first one's is 1e-3


class Screen(pyte.Screen):
    """A terminal; what is dim, which pyte does not know, is grey."""

    def select_graphic_rendition(self, *attributes: int) -> None:
        """Take colours and the like."""
        super().select_graphic_rendition(*(90 if wish == 2 else wish for wish in attributes))


def main() -> int:
    """Make the pictures, of runs that are trained for them or of one; 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--run", type=Path, help="a finished run, of whose report a picture is made"
    )
    arguments = parser.parse_args()
    PICTURES.mkdir(parents=True, exist_ok=True)
    measured = [ROOT / f"docs/measured/learn-gsm8k-{name}-h200.json" for name in LEARNT]
    drawn = [sys.executable, "-m", "recipes.gsm8k.results.table", *map(str, measured)]
    subprocess.run([*drawn, "--picture", str(PICTURES / "learn.svg")], check=True, cwd=ROOT)
    if arguments.run:
        return photograph(arguments.run)
    with tempfile.TemporaryDirectory(prefix="xmlgrpo-pictures-") as house:
        folder = Path(house)
        shutil.copytree(ROOT / "configs", folder / "configs")
        if (ROOT / "outputs/base").is_dir():  # where it fits, half of the time is saved
            shutil.copytree(ROOT / "outputs/base", folder / "outputs/base")
        with ThreadPoolExecutor() as beside:
            training = beside.submit(train, folder, "tiny")
            watched = watch(folder, "tiny", training)
        recorded = training.result()
        draw("train", recorded, lambda text: "step 40/60" in text and "left" in text)
        draw("watch", watched, lambda text: bool(WATCHED.search(text)))
        draw("result", recorded, None)
        train(folder, "slow", SLOW)
        draw("compare", record("xmlgrpo-compare", ["--runs", "tiny", "slow"], folder), None)
        return photograph(folder / "outputs/tiny")


def train(folder: Path, name: str, *overrides: str) -> bytes:
    """All that `make train` writes to a terminal."""
    wanted = ["--config", "configs/tiny.yaml", "--run", f"outputs/{name}", *overrides]
    return record("xmlgrpo-train", wanted, folder)


def watch(folder: Path, name: str, training: Future[bytes]) -> bytes:
    """All that `make watch` writes to a terminal, from the training's first second to its end."""
    while not (is_held(RunFolder(folder / "outputs" / name).lock) or training.done()):
        time.sleep(0.1)
    return record("xmlgrpo-watch", ["--run", f"outputs/{name}"], folder)


def record(command: str, arguments: list[str], folder: Path) -> bytes:
    """All that a command writes to a terminal."""
    log = BytesIO()
    child = pexpect.spawn(
        str(BIN / command),
        arguments,
        cwd=str(folder),
        dimensions=(ROWS, COLUMNS),
        timeout=LONGEST_S,
    )
    child.logfile_read = log
    child.expect(pexpect.EOF)
    child.close()
    if child.exitstatus:
        sys.exit(f"{command} ended with {child.exitstatus}:\n{log.getvalue().decode()[-2000:]}")
    return log.getvalue()


def draw(name: str, recorded: bytes, is_it: Callable[[str], bool] | None) -> None:
    """Draw the first moment at which the screen's text is the one wanted, or the last of all."""
    screen = Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    for frame in re.split(rb"(?=\r\x1b\[2K)", recorded):  # where the bar is drawn again
        stream.feed(frame)
        if is_it and is_it("\n".join(screen.display)):
            break
    lines = [_line(screen, number) for number in range(ROWS)]
    while lines and not lines[-1].plain.strip():
        lines.pop()
    paper = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    for line in lines:
        paper.print(line, soft_wrap=True, highlight=False)
    # without the web's font: a picture asks no other machine for anything
    plain = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    title = f"make {name}" if name in ("watch", "compare") else "make train"
    svg = paper.export_svg(title=title, code_format=plain, unique_id=name)
    keep(PICTURES / f"{name}.svg", svg.encode())


def _line(screen: pyte.Screen, number: int) -> Text:
    cells = [screen.buffer[number][column] for column in range(screen.columns)]
    text = Text()
    for (colour, bold, italic), same in groupby(cells, lambda c: (c.fg, c.bold, c.italics)):
        style = Style(color=_colour(colour), bold=bold, italic=italic)
        text.append("".join(cell.data for cell in same), style)
    text.rstrip()
    return text


def _colour(name: str) -> str | None:
    """Rich's name of pyte's colour."""
    if name == "default":
        return None
    if re.fullmatch(r"[0-9a-f]{6}", name):
        return f"#{name}"
    return {"brown": "yellow"}.get(name, name.replace("bright", "bright_"))


def photograph(run: Path) -> int:
    """Write the report of a run and take a picture of the top of it."""
    subprocess.run([str(BIN / "xmlgrpo-report"), "--run", str(run)], check=True)
    browser = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if browser is None:
        print(
            "the report's picture is left as it was: it needs a Chromium, and none of "
            f"{', '.join(CHROMIUM)} is here (Debian: apt-get install chromium)"
        )
        return 1
    width, height = REPORT_PIXELS
    with tempfile.TemporaryDirectory() as scratch:
        shot = Path(scratch) / "report.png"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        options += [f"--window-size={width},{height}", f"--screenshot={shot}"]
        page = (run / "report.html").resolve().as_uri()
        subprocess.run([browser, *options, page], check=True, capture_output=True, cwd=scratch)
        image = Image.open(shot).convert("RGB").quantize(128)  # a page of text needs few colours
        small = BytesIO()
        image.save(small, "PNG", optimize=True)
    if small.tell() > LARGEST_BYTES:
        sys.exit(f"the report's picture is {small.tell():,} bytes, more than {LARGEST_BYTES:,}")
    keep(PICTURES / "report.png", small.getvalue())
    return 0


def keep(path: Path, content: bytes) -> None:
    """Write a picture, unless it would show where on this machine it was made."""
    text = content.decode(errors="ignore")
    for place in (str(ROOT), str(Path.home()), tempfile.gettempdir()):
        if len(place) > 1 and place in text:
            sys.exit(f"{path.name} would show the path {place}; nothing is written")
    path.write_bytes(content)
    print(f"{path.relative_to(ROOT)}: {len(content):,} bytes")


if __name__ == "__main__":
    sys.exit(main())
