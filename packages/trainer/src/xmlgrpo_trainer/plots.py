"""`curves.png`: what changed over the steps, readable at a glance."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[Mapping[str, Any]]


def draw_curves(rows: Rows, path: Path, title: str) -> None:
    """Draw rewards, shares, completion length and gradient norm over the steps.

    Args:
        rows: the merged rows of `metrics.jsonl`, in step order; keys may be missing or null.
        path: where the PNG goes; replaced whole.
        title: what stands above the four panels.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    if not rows:
        return
    figure, ((rewards, shares), (lengths, stability)) = plt.subplots(
        2, 2, figsize=(11, 7), layout="constrained"
    )
    figure.suptitle(title)
    names = sorted({n for row in rows for n in row if _is_reward_mean(n)})
    for name in names:
        _line(rewards, rows, name, name.split("/")[1].removesuffix("_reward_func"))
    _line(rewards, rows, "reward", "weighted sum", color="black", linewidth=2)
    rewards.set(title="Reward of sampled completions", ylabel="mean a completion")

    for name, label, color in (
        ("strict_format", "strict format", "tab:blue"),
        ("worked", "worked out", "tab:orange"),
        ("lenient", "right number", "tab:green"),
    ):
        _line(shares, rows, f"sampled/{name}", f"{label} (sampled)", color=color, alpha=0.6)
    for name, label, color in (
        ("strict_accuracy", "strict accuracy (validation, greedy)", "tab:red"),
        ("lenient_accuracy", "lenient accuracy (validation, greedy)", "tab:green"),
    ):
        _line(shares, rows, f"validation/{name}", label, color=color, marker="o", linewidth=2)
    shares.set(title="Format, working, right answers", ylabel="share", ylim=(-0.03, 1.03))

    _line(lengths, rows, "completions/mean_length", "mean length", color="tab:purple")
    lengths.set(title="Completion length", ylabel="tokens")
    cut = lengths.twinx()
    _line(cut, rows, "completions/clipped_ratio", "cut at the limit", color="tab:gray", alpha=0.7)
    cut.set(ylabel="share cut", ylim=(-0.03, 1.03))

    _line(stability, rows, "grad_norm", "gradient norm", color="tab:brown")
    stability.set(title="Stability", ylabel="gradient norm")
    spread = stability.twinx()
    _line(spread, rows, "entropy", "entropy", color="tab:cyan", alpha=0.7)
    spread.set(ylabel="entropy, nats a token")

    for panel in (rewards, shares, lengths, stability):
        panel.set(xlabel="step")
        panel.grid(visible=True, alpha=0.3)
    _legend(rewards)
    _legend(shares)
    _legend(lengths, cut)
    _legend(stability, spread)
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png", dpi=110)
    plt.close(figure)
    partial.replace(path)


def _is_reward_mean(name: str) -> bool:
    return name.startswith("rewards/") and name.endswith("/mean")


def _line(panel: Any, rows: Rows, name: str, label: str, **style: Any) -> None:
    points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    if points:
        panel.plot(*zip(*points, strict=True), label=label, **style)


def _legend(panel: Any, twin: Any = None) -> None:
    handles, labels = panel.get_legend_handles_labels()
    if twin is not None:
        more_handles, more_labels = twin.get_legend_handles_labels()
        handles, labels = handles + more_handles, labels + more_labels
    if handles:
        panel.legend(handles, labels, fontsize=7)
