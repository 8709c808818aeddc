"""`curves.png`: what changed over the steps, readable at a glance."""

from pathlib import Path

from xmlgrpo_rewards.task import Words
from xmlgrpo_run.screen.curves import Ink, Rows, draw, panels


def draw_curves(rows: Rows, path: Path, title: str, words: Words) -> None:
    """Draw the curves of a run; nothing where nothing was logged.

    Args:
        rows: the merged rows of `metrics.jsonl`, in step order; keys may be missing or null.
        path: where the PNG goes; replaced whole.
        title: what stands above the panels.
        words: of the run's task.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = panels(rows, words)
    if not drawn:
        return
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, parse_math=False)
    draw(figure, rows, drawn, Ink())
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png", dpi=110)
    partial.replace(path)
