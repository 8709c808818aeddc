r"""What several GPUs give, from whatever `scaling.py` has measured: table and plot, or on paper.

    python -m bench.several_gpus.scaling_table docs/measured/scaling-*.json \
        --into docs/scale-out.md --plot docs/pictures/scaling.svg
    python -m bench.several_gpus.scaling_table --paper docs/measured/{growth,rollout}-h200.json

A number of GPUs that was not measured has no row; an efficiency whose single GPU was not measured
is a dash.  `--into` replaces what stands between the lines `<!-- scaling -->` and
`<!-- /scaling -->`; without it the table is printed.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy import interp

from bench.shared.cases import GROUP, PARTS
from bench.shared.texts import markdown
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import write_text

START, END = "<!-- scaling -->", "<!-- /scaling -->"


@dataclass(frozen=True, slots=True)
class Measured:
    """A step as it was measured.

    Attributes:
        size: of the model, such as "1b".
        prompts: of a step, on all GPUs together.
        gpus: how many shared them.
        step_s: seconds of a step.
        parts_s: seconds by part; empty where they were not taken apart.
        device: the GPU's name.
    """

    size: str
    prompts: int
    gpus: int
    step_s: float
    parts_s: Mapping[str, float]
    device: str


def read(paths: Iterable[Path]) -> list[Measured]:
    """Every measurement in these files, those of one machine together.

    Raises:
        UserError: a file that is not `scaling.py`'s, or a case measured twice on one kind of GPU.
    """
    found: dict[tuple[str, str, int, int], Measured] = {}
    for path in paths:
        try:
            results = json.loads(path.read_text(encoding="utf-8"))["results"]
            for result in results:
                facts = {name: result[name] for name in ("size", "prompts", "gpus", "step_s")}
                device = result["hardware"]["device"]
                one = Measured(**facts, parts_s=result.get("parts_s") or {}, device=device)
                key = (device, one.size, one.prompts, one.gpus)
                if key in found:
                    raise UserError(
                        f"{path}: {one.size}, {one.prompts} prompts on {one.gpus} twice"
                    )
                found[key] = one
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: expected what scaling.py writes, got {error!r}") from None
    return [found[key] for key in sorted(found)]


def strong(one: Measured, measured: Sequence[Measured]) -> float | None:
    """The step of one GPU with the same batch, over so many times this one's; 1 is ideal."""
    alone = _at(measured, one, one.prompts)
    return None if alone is None else alone.step_s / (one.step_s * one.gpus)


def weak(one: Measured, measured: Sequence[Measured]) -> float | None:
    """The step of one GPU with this one's batch of a GPU, over this one's; 1 is ideal."""
    if one.prompts % one.gpus:
        return None
    alone = _at(measured, one, one.prompts // one.gpus)
    return None if alone is None else alone.step_s / one.step_s


def _at(measured: Sequence[Measured], one: Measured, prompts: int) -> Measured | None:
    """The measurement of one GPU of the same kind with so many prompts."""
    same = (one.device, one.size, prompts, 1)
    matching = (m for m in measured if (m.device, m.size, m.prompts, m.gpus) == same)
    return next(matching, None)


def table(measured: Sequence[Measured]) -> str:
    """The measurements in Markdown, one a row."""
    if not measured:
        return "Nothing is measured yet."
    head = ["model", "prompts", "GPUs", "step", *PARTS, "strong", "weak"]
    rows = []
    for one in measured:
        parts = [f"{one.parts_s[part]:.2f}" if part in one.parts_s else "-" for part in PARTS]
        shares = [
            "-" if s is None else f"{s:.0%}" for s in (strong(one, measured), weak(one, measured))
        ]
        cells = [one.size.upper(), str(one.prompts), str(one.gpus), f"{one.step_s:.2f} s", *parts]
        rows.append([*cells, *shares])
    devices = ", ".join(sorted({one.device for one in measured}))
    return f"{markdown(head, rows)}\n\nMeasured on: {devices}."


def draw(measured: Sequence[Measured], path: Path) -> None:
    """Speed-up over GPUs: solid the same batch, dotted the same batch a GPU, grey the ideal."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    most = max((one.gpus for one in measured), default=2)
    axes.plot([1, most], [1, most], color="0.7", label="ideal")
    for size, prompts in sorted({(one.size, one.prompts) for one in measured if one.gpus == 1}):
        of_size = [one for one in measured if one.size == size]
        same = [(o.gpus, strong(o, of_size)) for o in of_size if o.prompts == prompts]
        grown = [(o.gpus, weak(o, of_size)) for o in of_size if o.prompts == prompts * o.gpus]
        label = f"{size.upper()}, {prompts} prompts"
        for points, style, words in ((same, "o-", label), (grown, "s:", f"{label} a GPU")):
            known = sorted((gpus, share * gpus) for gpus, share in points if share is not None)
            if len(known) > 1:
                axes.plot(*zip(*known, strict=True), style, label=words)
    axes.set_xlabel("GPUs")
    axes.set_ylabel("times as fast as one")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def put_into(text: str, made: str) -> str:
    """A document with its table replaced.

    Raises:
        UserError: the two lines around it are not there, once each.
    """
    before, start, rest = text.partition(f"{START}\n")
    _, end, after = rest.partition(END)
    if not start or not end or START in after:
        raise UserError(f"expected the lines {START} and {END} once each, around the table")
    return f"{before}{start}{made}\n{end}{after}"


def on_paper(growth: Mapping[str, Any], rollout: Mapping[str, Any]) -> str:
    """Steps of 8 x 256 completions on up to 64 GPUs, calculated from one GPU's measurements.

    A step on N GPUs is the step of one GPU with an N-th of the completions: between the measured
    sizes rollout and the rest are straight lines, below the smallest they are its own.  Exchanging
    gradients is not in it: an adapter of 13 million float32 numbers is 52 MB.
    """
    drawn = sorted((s["rows"], s["seconds"]) for s in rollout["settings"] if _is_plain(s))
    steps = sorted(
        (r["completions"], r["step_s"]) for r in growth["growth"].values() if r["tokens"] == 256
    )
    found = []
    for prompts, gpus in ((128, 1), (128, 8), (128, 64), (1024, 64)):
        rows = prompts * GROUP / gpus
        step_s, rollout_s = on_lines(steps, rows), on_lines(drawn, rows)
        best_s = steps[-1][1] / steps[-1][0] * rows  # at the pace of the largest batch measured
        cells = [f"{rollout_s:.2f} s", f"{step_s - rollout_s:.2f} s", f"{step_s:.2f} s"]
        found.append([f"{prompts:,}", str(gpus), *cells, f"{best_s / step_s:.0%}"])
    return markdown(["prompts", "GPUs", "rollout", "the rest", "step", "efficiency"], found)


def _is_plain(setting: Mapping[str, Any]) -> bool:
    """Whether completions of 256 tokens were drawn from the whole distribution."""
    return setting["new_tokens"] == 256 and "top_k" not in setting


def on_lines(points: Sequence[tuple[float, float]], x: float) -> float:
    """The value at x on the straight lines between points in order; outside them the nearest's."""
    xs, ys = zip(*points, strict=True)
    return float(interp(x, xs, ys))


def main() -> int:
    """Print the table, or put it where it belongs."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("files", nargs="*", type=Path, help="that scaling.py wrote")
    made.add_argument("--into", type=Path, metavar="FILE", help="Markdown whose table is replaced")
    made.add_argument("--plot", type=Path, metavar="FILE", help="draw the speed-up (.svg, .png)")
    made.add_argument(
        "--paper",
        nargs=2,
        type=Path,
        metavar=("GROWTH", "ROLLOUT"),
        help="calculate 64 GPUs from what steps.py growth and rollout_scaling.py wrote",
    )
    asked = made.parse_args()
    if asked.paper:
        growth, rollout = (json.loads(path.read_text(encoding="utf-8")) for path in asked.paper)
        print(on_paper(growth, rollout))
        return 0
    measured = read(asked.files)
    if asked.into is None:
        print(table(measured))
    else:
        write_text(asked.into, put_into(asked.into.read_text(encoding="utf-8"), table(measured)))
    if asked.plot is not None:
        draw(measured, asked.plot)
    return 0


if __name__ == "__main__":
    run_command(main)
