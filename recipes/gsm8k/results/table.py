"""The experiment's table and picture, of the file that `learn.py` writes.

    python -m recipes.gsm8k.results.table told.json --picture learn.svg   # the table on the screen

Several files, each an experiment with its own base, stand beside each other in the picture:

    python -m recipes.gsm8k.results.table --picture docs/pictures/learn.svg \
        docs/measured/learn-gsm8k-{unseen,draws,equal-time}-h200.json
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.gsm8k.stages.plan import OWN_SOLUTIONS
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError

CALLED = {
    "grpo": "GRPO",
    "steps": "GRPO, results on the way paid too",
    "plain": "GRPO, rows in turn",
    "random": "control: paid by a coin",
    "format": "control: paid for the form",
    "more-sft": "supervised, same stories",
    "rejection": "supervised, own right replies",
}
GREEDY, ONE_OF_SAMPLES = "k1", "strict_accuracy"
HEAD = ("model", "minutes", "greedy", "difference", "one sample", "difference", "maj", "pass")


@dataclass(frozen=True, slots=True)
class Tested:
    """A model on the test split.

    Attributes:
        name: what it is, in words.
        kind: a key of `CALLED`, or base.
        minutes: of a GPU for its training, from the base on; a share where arms shared one.
        samples: by number of samples (`k1`, `k16`), metrics with intervals and differences.
        curve: minutes and greedy accuracy on the validation rows.
    """

    name: str
    kind: str
    minutes: float
    samples: dict[str, Any]
    curve: tuple[tuple[float, float], ...]


def main() -> int:
    """Print every file's table; draw the picture."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("files", type=Path, nargs="+")
    options.add_argument("--picture", type=Path, help="an .svg or .png to write")
    asked = options.parse_args()
    experiments = [_read(path) for path in asked.files]
    for path, experiment in zip(asked.files, experiments, strict=True):
        print(f"{table(experiment)}{seeds_table(_told(path).get('seeds', {}))}\n")
    if asked.picture:
        draw(experiments, asked.picture)
    return 0


def _read(path: Path) -> list[Tested]:
    try:
        return models(_told(path))
    except (OSError, ValueError, KeyError) as error:
        expected = f"expected what learn.py writes after its phase `test` in {path}"
        raise UserError(f"{expected}, got {error}") from None


def _told(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return told


def models(told: dict[str, Any]) -> list[Tested]:
    """The base and every arm that was tested."""
    found = []
    for name, samples in told["test"].items():
        if GREEDY not in samples:
            continue
        kind = "base" if name == told["base"] else name.rstrip("0123456789").rstrip("-")
        stages = [] if kind == "base" else [name, *([OWN_SOLUTIONS] if kind == "rejection" else [])]
        tries = [one for stage in stages for one in told["stages"].get(stage, ())]
        seconds = sum(one["seconds"] / one.get("abreast", 1) for one in tries)
        rows = [row for row in told["results"].get(name, {}).get("curve", ()) if row["step"]]
        curve = tuple(
            (row["step"] / len(rows) * seconds / 60, row["validation/strict_accuracy"])
            for row in told["results"].get(name, {}).get("curve", ())
            if "validation/strict_accuracy" in row
        )
        called = CALLED.get(kind, kind)
        if kind in told.get("seeds", {}):
            called += f", seed {name.rpartition('-')[2]}"
        found.append(Tested(called, kind, seconds / 60, samples, curve))
    return sorted(found, key=lambda model: ["base", *CALLED].index(model.kind))


def write(told: dict[str, Any], beside: Path) -> None:
    """Print the table, and write it and the picture beside the file of the results."""
    experiment = models(told)
    print(words := table(experiment) + seeds_table(told.get("seeds", {})))
    beside.with_suffix(".md").write_text(f"{words}\n", encoding="utf-8")
    draw([experiment], beside.with_suffix(".svg"))


def table(experiment: Sequence[Tested]) -> str:
    """Markdown: accuracies in per cent with 95 % intervals, differences to the base in points."""
    rows = [HEAD, ("---",) * len(HEAD), *(tuple(_cells(model)) for model in experiment)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def seeds_table(seeds: dict[str, Any]) -> str:
    """The kinds of arms with several seeds, or nothing; the interval is over seeds and items."""
    if not seeds:
        return ""
    head = ("several seeds", "seeds", "mean", "range", "difference")
    rows = [head, ("---",) * len(head)]
    for kind, told in seeds.items():
        gap = "{:+.1f} [{:+.1f}, {:+.1f}]".format(
            *(100 * told["difference"][part] for part in ("value", "low", "high"))
        )
        low, high = 100 * told["lowest"], 100 * told["highest"]
        count, spread = str(len(told["seeds"])), f"{low:.1f} to {high:.1f}"
        rows.append((CALLED.get(kind, kind), count, f"{told['mean']:.1%}", spread, gap))
    return "".join(["\n\n", *(f"| {' | '.join(row)} |\n" for row in rows)]).rstrip("\n")


def _cells(model: Tested) -> Iterator[str]:
    yield model.name
    yield f"{model.minutes:.1f}" if model.minutes else ""
    several = next((k for k in model.samples if k != GREEDY), None)
    for k in (GREEDY, several):
        told = model.samples.get(k) if k else None
        yield _share(told, ONE_OF_SAMPLES)
        beside = [None, *told.get("beside_base", {}).values()][-1] if told else None
        gap = beside[ONE_OF_SAMPLES]["difference"] if beside else None
        in_points = [f"{100 * gap[part]:+.1f}" for part in ("value", "low", "high")] if gap else []
        yield "{} [{}, {}]".format(*in_points) if in_points else ""
    for metric in ("maj_at_k", "pass_at_k"):
        shown = _share(model.samples[several], metric) if several else ""
        yield f"{shown} (@{several[1:]})" if several and shown else ""


def _share(told: dict[str, Any] | None, metric: str) -> str:
    found = [*told["metrics"].values()][-1].get(metric) if told else None  # after the greedy one
    if found is None or found["mean"] is None:
        return ""
    return f"{found['mean']:.1%} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def draw(experiments: Sequence[Sequence[Tested]], out: Path) -> None:
    """Greedy test accuracy against minutes of a GPU: arms as points with their 95 % intervals.

    Each experiment has a panel, its base a band across it.  Thin lines: accuracy on the validation
    rows, which are other problems.  Arms of the same minutes are drawn a little apart.
    """
    import matplotlib as mpl  # noqa: PLC0415 - half a second, for the picture alone

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice

    plt.rcParams["svg.hashsalt"] = "gsm8k"  # the same file from the same numbers
    size = (3.2 * len(experiments) + 0.8, 4.4)
    figure, panels = plt.subplots(1, len(experiments), figsize=size, sharey=True, squeeze=False)
    colours = {kind: f"C{number}" for number, kind in enumerate(CALLED)}
    labelled: dict[str, Any] = {}
    for number, (panel, experiment) in enumerate(zip(panels[0], experiments, strict=True), 1):
        most = max(model.minutes for model in experiment) or 1
        for place, model in enumerate(experiment):
            found = next(iter(model.samples[GREEDY]["metrics"].values()))[ONE_OF_SAMPLES]
            mean, low, high = (100 * found[part] for part in ("mean", "low", "high"))
            if model.kind == "base":
                panel.axhspan(low, high, color="0.9")
                line = panel.axhline(mean, color="0.5")
                labelled.setdefault("base, with its 95 % interval", line)
                continue
            colour, minutes = colours[model.kind], model.minutes + most * 0.02 * (place - 2)
            bars = [[mean - low], [high - mean]]
            point = panel.errorbar(minutes, mean, bars, fmt="o", color=colour, capsize=3)
            labelled.setdefault(CALLED[model.kind], point)
            if model.curve:
                across, up = zip(*model.curve, strict=True)
                panel.plot(across, [100 * share for share in up], color=colour, lw=0.8, ls="--")
        panel.set(xlabel="minutes of one GPU", xlim=(0, most * 1.12))
        if len(experiments) > 1:
            panel.set_title(f"experiment {number}", fontsize="medium")
    panels[0][0].set_ylabel("right of the test split, greedy, %")
    names = {"dashed: validation rows": plt.Line2D([], [], color="0.3", lw=0.8, ls="--")}
    names = {**labelled, **names}
    figure.legend(names.values(), names, loc="lower center", ncols=3, fontsize="small")
    figure.tight_layout(rect=(0, 0.17, 1, 1))
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    plt.close(figure)


if __name__ == "__main__":
    run_command(main)
