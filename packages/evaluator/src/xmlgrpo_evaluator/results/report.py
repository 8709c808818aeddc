"""`xmlgrpo-report`: one HTML file about a finished run, which needs nothing beside it.

Completions are hostile text: the template escapes every value, and the page's content security
policy allows no script at all.
"""

import argparse
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from xmlgrpo_evaluator.results.compare import table_rows
from xmlgrpo_evaluator.results.ladder import cells
from xmlgrpo_evaluator.results.result import main_metric
from xmlgrpo_rewards.console_script import add_version, kept_on_interrupt, run_command
from xmlgrpo_rewards.interval import Share
from xmlgrpo_rewards.rows import text_rows
from xmlgrpo_rewards.task import Words
from xmlgrpo_run.files import read_json, write_text
from xmlgrpo_run.folder import RunFolder, find_run
from xmlgrpo_run.manifest import HeldOut, read_manifest, require_as_trained
from xmlgrpo_run.metrics import read_log
from xmlgrpo_run.screen.curves import Ink, draw, panels, reward_name
from xmlgrpo_run.screen.metric_names import metric_names, words_of
from xmlgrpo_run.screen.progress import Stage

# Stand for the page's colours until the SVG is drawn; no other colour is like them.
_TEXT, _GRID = "#010101", "#020202"
_LINES = {f"#0{n}0{n}0{n}": f"line-{n}" for n in range(3, 9)}
_FLIPS_SHOWN = 5
_STEPS_SHOWN = 12
_COMPLETIONS_PER_STEP = 3


def main() -> None:
    """The console script."""
    run_command(lambda: _main(sys.argv[1:]))


def _main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="xmlgrpo-report", description="Write one self-contained report.html about a run."
    )
    add_version(parser)
    parser.add_argument(
        "--run", required=True, metavar="RUN", help="its folder, or its name under outputs/"
    )
    run = find_run(parser.parse_args(arguments).run)
    with (
        kept_on_interrupt("no report was written; the same command writes it"),
        Stage(Console(stderr=True), "writing the report"),
    ):
        write_report(run)
    print(run.report)


def write_report(run: RunFolder) -> None:
    """Write `report.html` into a run's folder: training, and whatever was evaluated since.

    Raises:
        UserError: training has not finished, or a file of the run cannot be read.
    """
    write_text(run.report, render(run))


def render(run: RunFolder) -> str:
    """The report as HTML."""
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup

    manifest = read_manifest(run)
    words = words_of(manifest.task)
    names = {key: name.full for key, name in metric_names(words).items()}
    environment = Environment(
        loader=PackageLoader("xmlgrpo_evaluator", "results"), autoescape=True, trim_blocks=True
    )
    environment.filters |= {
        "called": lambda metric: names.get(metric, metric),
        "cells": cells,
        "interval": lambda value: "{mean:.1%} [{low:.1%}, {high:.1%}]".format(**value),
        "main_metric": main_metric,
        "table_rows": table_rows,
    }
    base = manifest.base
    left = {
        path: require_as_trained(run, manifest, path)
        for path in (run.config, run.metrics)
        if path.name in manifest.files
    }
    evaluations = [read_json(path) for path in sorted(run.eval.glob("*.json"))]
    return environment.get_template("report.html.j2").render(
        run=run.name,
        manifest=manifest,
        manifest_text=json.dumps(manifest.as_json(), indent=2, ensure_ascii=False),
        config=left[run.config].read_text(encoding="utf-8") if run.config in left else "",
        base=base.hub_id or Path(base.name).name,
        held_out=list(_held_out(manifest.holdout, list(names))),
        comparisons=[file for file in evaluations if "first" in file],
        results=[file for file in evaluations if "subject" in file],
        flips_shown=_FLIPS_SHOWN,
        ladder=read_json(run.ladder) if run.ladder.is_file() else None,
        curves=Markup(_curves(list(read_log(run.metrics).rows.values()), words)),  # noqa: S704 - matplotlib's SVG, all text escaped by it
        steps=_steps(run.completions),
    )


def _held_out(holdout: HeldOut, order: Sequence[str]) -> Iterator[dict[str, str]]:
    """A row per metric: those with a name of their own first, in its order."""
    both = [name for name in holdout.before if name in holdout.after]
    named = [name for name in order if name in both]
    for name in [*named, *(n for n in both if n not in {*named, "worked"})]:
        before, after = holdout.before[name], holdout.after[name]
        if isinstance(before, dict):
            before, after = Share(**before), Share(**after)
            change = f"{100 * (after.value - before.value):+.1f} points"
            yield {"name": name, "before": str(before), "after": str(after), "change": change}
        else:
            change = f"{after - before:+.1f}"
            yield {
                "name": name,
                "before": f"{before:.1f}",
                "after": f"{after:.1f}",
                "change": change,
            }


def _curves(rows: Sequence[Mapping[str, Any]], words: Words) -> str:
    """The training curves as SVG whose colours are the page's; empty without any."""
    drawn = panels(rows, words)
    if not drawn:
        return ""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # text stays text, in the page's own font; names of parts do not change from run to run
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "xmlgrpo"}):
        figure = Figure(layout="constrained", facecolor="none")
        FigureCanvasSVG(figure)
        draw(figure, rows, drawn, Ink(_TEXT, _GRID, tuple(_LINES)))
        image = io.StringIO()
        figure.savefig(image, format="svg", metadata={"Date": None})
    svg = image.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    for colour, variable in {_TEXT: "text", _GRID: "grid", **_LINES}.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg


def _steps(place: Path) -> list[dict[str, Any]]:
    """A few different completions of steps spread over the training."""
    files = sorted(place.glob("step-*.jsonl"))
    stride = max(1, -(-len(files) // _STEPS_SHOWN))
    return [
        {
            "step": int(file.stem.removeprefix("step-")),
            "completions": _different([row.fields for row in text_rows(file)]),
        }
        for file in [*files[:-1:stride], *files[-1:]]
    ]


def _different(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The first few that differ, each with how often it was drawn."""
    drawn: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        drawn.setdefault((row["question"], row["completion"]), []).append(row)
    return [
        {
            **same[0],
            "times": len(same),
            "of": len(rows),
            "scores": ", ".join(
                f"{reward_name(name)} {f'{score:g}' if isinstance(score, float) else score}"
                for name, score in same[0]["scores"].items()
            ),
        }
        for same in list(drawn.values())[:_COMPLETIONS_PER_STEP]
    ]


if __name__ == "__main__":
    main()
