"""`xmlgrpo-report`: one HTML file about a run, which needs nothing beside it.

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

from xmlgrpo_rewards.errors import kept_on_interrupt, run_command
from xmlgrpo_rewards.interval import Share
from xmlgrpo_rewards.task import Words
from xmlgrpo_rewards.version import add_version
from xmlgrpo_run.files import read_json, write_text
from xmlgrpo_run.folder import RunFolder, find_run
from xmlgrpo_run.manifest import Base, HeldOut, read_manifest
from xmlgrpo_run.metric_names import metric_names, words_of
from xmlgrpo_run.metrics import read_log
from xmlgrpo_run.screen.curves import Ink, draw, panels, reward_name
from xmlgrpo_run.screen.progress import Stage

# Stand for the page's colours until the SVG is drawn; no other colour is like them.
_TEXT, _GRID = "#010101", "#020202"
_LINES = {f"#0{n}0{n}0{n}": f"line-{n}" for n in range(3, 9)}
_FLIPS_SHOWN = 5
_STEPS_SHOWN = 12
_SAMPLES_A_STEP = 3


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
    options = parser.parse_args(arguments)
    folder = find_run(options.run)
    with (
        kept_on_interrupt("no report was written; the same command writes it"),
        Stage(Console(stderr=True), "writing the report"),
    ):
        write_report(folder)
    print(folder.report)


def write_report(folder: RunFolder) -> None:
    """Write `report.html` into a run's folder, from whatever the run has so far.

    Raises:
        UserError: training has not finished, or a file of the run cannot be read.
    """
    write_text(folder.report, render(folder))


def render(folder: RunFolder) -> str:
    """The report as HTML."""
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup

    manifest = read_manifest(folder)
    words = words_of(manifest.task)
    names = {key: name.full for key, name in metric_names(words).items()}
    environment = Environment(
        loader=PackageLoader("xmlgrpo_evaluator", "results"), autoescape=True, trim_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        run=folder.name,
        manifest=manifest,
        manifest_text=json.dumps(manifest.as_json(), indent=2, ensure_ascii=False),
        config=folder.config.read_text(encoding="utf-8") if folder.config.is_file() else "",
        base=_base_name(manifest.base),
        held_out=_held_out(manifest.holdout, names),
        comparisons=[_comparison(c, names) for c in _json_files(folder.eval, "compare*.json")],
        results=list(_results(folder, names)),
        ladder=_ladder(folder.ladder, names),
        curves=Markup(_curves(list(read_log(folder.metrics).rows.values()), words)),  # noqa: S704 - matplotlib's SVG, all text escaped by it
        samples=_samples(folder.completions),
    )


def _base_name(base: Base) -> str:
    """The base model as a reader knows it: of a folder, its name."""
    return base.name if base.place is None else Path(base.place.path).name


def _held_out(holdout: HeldOut, names: Mapping[str, str]) -> list[dict[str, str]]:
    before, after = holdout.before, holdout.after
    known = [name for name in names if name in before]
    rest = [name for name in before if name not in {*known, "worked"}]
    return [
        {
            "name": names.get(name, name),
            "before": _held_out_value(before[name]),
            "after": _held_out_value(after[name]),
            "change": _change(before[name], after[name]),
        }
        for name in (*known, *rest)
        if name in after
    ]


def _held_out_value(value: Any) -> str:
    return str(Share(**value)) if isinstance(value, dict) else f"{value:.1f}"


def _change(before: Any, after: Any) -> str:
    if isinstance(before, dict):
        points = 100 * (Share(**after).value - Share(**before).value)
        return f"{points:+.1f} points"
    return f"{after - before:+.1f}"


def _comparison(compared: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    from xmlgrpo_evaluator.results.compare import table_rows

    tasks = [
        {
            "name": name,
            "n_items": task["items"],
            "rows": [[names.get(row[0], row[0]), *row[1:]] for row in table_rows(task)],
            **{
                way: {"count": len(task[way]), "shown": task[way][:_FLIPS_SHOWN]}
                for way in ("gained", "lost")
            },
        }
        for name, task in compared["tasks"].items()
    ]
    return {**compared, "tasks": tasks}


def _results(folder: RunFolder, names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    from xmlgrpo_evaluator.results.result import RESULT_FORMAT, headline

    for result in _json_files(folder.eval, "*.json"):
        if result.get("format") != RESULT_FORMAT or "subject" not in result:
            continue
        for name, task in result["tasks"].items():
            metric, value = headline(task) or ("", {"mean": None})
            yield {
                "label": result["label"],
                "task": name,
                "n": len(task["items"]),
                "metric": names.get(metric, metric),
                "value": _with_interval(value),
                "prompts": _of(result["prompts"], "identical", "compared"),
                "batch": _of(result["batch_check"], "identical", "items"),
            }


def _of(check: Mapping[str, Any] | None, part: str, whole: str) -> str:
    return f"{check[part]} of {check[whole]}" if check and check[whole] else "not compared"


def _with_interval(value: Mapping[str, Any]) -> str:
    if value["mean"] is None:
        return ""
    return f"{value['mean']:.1%} [{value['low']:.1%}, {value['high']:.1%}]"


def _ladder(path: Path, names: Mapping[str, str]) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    from xmlgrpo_evaluator.results.ladder_view import cells

    ladder = read_json(path)
    columns = ("label", "accuracy", "difference", "p", "mb", "bits", "speed", "memory", "gate")
    rungs = [
        {
            **dict(zip(columns, cells(rung, says_against=False), strict=True)),
            "against": rung["against"],
        }
        for rung in ladder["rungs"]
    ]
    metric = str(ladder["metric"])
    return {**ladder, "rungs": rungs, "metric": names.get(metric, metric)}


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


def _samples(place: Path) -> list[dict[str, Any]]:
    """A few different completions of steps spread over the training."""
    files = sorted(place.glob("step-*.jsonl"))
    stride = max(1, -(-len(files) // _STEPS_SHOWN))
    chosen = [*files[:-1:stride], *files[-1:]]
    return [
        {
            "step": file.stem.removeprefix("step-").lstrip("0") or "0",
            "rows": _different(list(_json_lines(file))),
        }
        for file in chosen
    ]


def _different(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The first few that differ, each with how often it was drawn."""
    drawn: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        key = (str(row.get("question", "")), str(row.get("completion", "")))
        drawn.setdefault(key, []).append(row)
    return [
        {
            "question": question,
            "gold": str(same[0].get("gold", "")),
            "completion": completion,
            "times": len(same),
            "of": len(rows),
            "scores": ", ".join(
                f"{reward_name(name)} {score:g}"
                if _is_number(score)
                else f"{reward_name(name)} {score}"
                for name, score in (same[0].get("scores") or {}).items()
            ),
        }
        for (question, completion), same in list(drawn.items())[:_SAMPLES_A_STEP]
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _json_files(place: Path, pattern: str) -> list[dict[str, Any]]:
    return [read_json(path) for path in sorted(place.glob(pattern))]


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The complete lines of a file; one that was cut off by a kill is left out."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row


if __name__ == "__main__":
    main()
