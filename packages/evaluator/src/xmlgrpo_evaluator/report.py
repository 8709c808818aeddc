"""`xmlgrpo-report`: one HTML file about a run, which needs nothing beside it.

Completions are hostile text: the template escapes every value, and the page's content security
policy allows no script at all.
"""

import argparse
import base64
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from xmlgrpo_rewards.errors import UserError, kept_on_interrupt, run_command
from xmlgrpo_rewards.interval import Share
from xmlgrpo_rewards.run_folder import RunFolder, find_run, write_text
from xmlgrpo_rewards.version import add_version
from xmlgrpo_rollout.progress import Stage

CURVES = (
    ("reward", "reward a completion"),
    ("rewards/correctness_reward_func/mean", "correctness reward"),
    ("completions/mean_length", "completion length, tokens"),
    ("completions/clipped_ratio", "cut at the limit"),
    ("frac_reward_zero_std", "groups without a signal"),
    ("entropy", "entropy"),
    ("kl", "KL to the base"),
    ("grad_norm", "gradient norm"),
)
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

    manifest = folder.read_manifest()
    environment = Environment(
        loader=PackageLoader("xmlgrpo_evaluator", ""), autoescape=True, trim_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        run=folder.root.name,
        manifest=manifest,
        manifest_text=json.dumps(manifest, indent=2, ensure_ascii=False),
        config=folder.config.read_text(encoding="utf-8") if folder.config.is_file() else "",
        held_out=_held_out(manifest),
        comparisons=[_comparison(c) for c in _json_files(folder.eval, "compare*.json")],
        results=list(_results(folder)),
        ladder=_ladder(folder.root / "ladder.json"),
        curves=_curves(read_metrics(folder.metrics)),
        samples=_samples(folder.root / "completions"),
    )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The logged steps in order; the lines of one step are merged, a key's last value counts."""
    by_step: dict[int, dict[str, Any]] = {}
    for row in _json_lines(path):
        if isinstance(row.get("step"), int):
            by_step.setdefault(row["step"], {}).update(row)
    return [by_step[step] for step in sorted(by_step)]


def _held_out(manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    holdout = manifest.get("holdout") or {}
    before, after = holdout.get("before") or {}, holdout.get("after") or {}
    return [
        {
            "name": name,
            "before": _held_out_value(before[name]),
            "after": _held_out_value(after[name]),
        }
        for name in before
        if name in after
    ]


def _held_out_value(value: Any) -> str:
    return str(Share(value["hits"], value["total"])) if isinstance(value, dict) else f"{value:.1f}"


def _comparison(compared: Mapping[str, Any]) -> dict[str, Any]:
    from xmlgrpo_evaluator.compare import table_rows

    tasks = [
        {
            "name": name,
            "n_items": task["items"],
            "rows": table_rows(task),
            **{
                way: {"count": len(task[way]), "shown": task[way][:_FLIPS_SHOWN]}
                for way in ("gained", "lost")
            },
        }
        for name, task in compared["tasks"].items()
    ]
    return {**compared, "tasks": tasks}


def _results(folder: RunFolder) -> Iterator[dict[str, Any]]:
    from xmlgrpo_evaluator.result import RESULT_FORMAT, headline

    for result in _json_files(folder.eval, "*.json"):
        if result.get("format") != RESULT_FORMAT or "subject" not in result:
            continue
        for name, task in result["tasks"].items():
            metric, value = headline(task) or ("", {"mean": None})
            yield {
                "label": result["label"],
                "task": name,
                "n": len(task["items"]),
                "metric": metric,
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


def _ladder(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    from xmlgrpo_evaluator.ladder_view import cells

    ladder = _read_json(path)
    names = ("label", "accuracy", "difference", "p", "mb", "bits", "speed", "memory", "gate")
    rungs = [dict(zip(names, cells(rung), strict=True)) for rung in ladder["rungs"]]
    return {**ladder, "rungs": rungs}


def _curves(rows: Sequence[Mapping[str, Any]]) -> str:
    """The training curves as a data URI; empty without any."""
    drawn = [(key, title) for key, title in CURVES if sum(_is_number(r.get(key)) for r in rows) > 1]
    if not drawn:
        return ""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 2
    lines = -(-len(drawn) // columns)
    figure = Figure(figsize=(10, 2.4 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (key, title) in enumerate(drawn, start=1):
        points = [(row["step"], row[key]) for row in rows if _is_number(row.get(key))]
        axes = figure.add_subplot(lines, columns, place)
        axes.plot(*zip(*points, strict=True))
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("step", fontsize="small")
        axes.grid(visible=True, alpha=0.3)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return f"data:image/png;base64,{base64.b64encode(image.getvalue()).decode('ascii')}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _samples(place: Path) -> list[dict[str, Any]]:
    """A few completions of steps spread over the training."""
    files = sorted(place.glob("step-*.jsonl"))
    stride = max(1, -(-len(files) // _STEPS_SHOWN))
    chosen = [*files[:-1:stride], *files[-1:]]
    steps = []
    for file in chosen:
        rows = [
            {
                "question": str(row.get("question", "")),
                "gold": str(row.get("gold", "")),
                "completion": str(row.get("completion", "")),
                "scores": ", ".join(f"{k} {v}" for k, v in (row.get("scores") or {}).items()),
            }
            for row in list(_json_lines(file))[:_SAMPLES_A_STEP]
        ]
        steps.append({"step": file.stem.removeprefix("step-").lstrip("0") or "0", "rows": rows})
    return steps


def _json_files(place: Path, pattern: str) -> list[dict[str, Any]]:
    return [_read_json(path) for path in sorted(place.glob(pattern))]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); delete it and make it again") from None


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
