"""Finished runs on the same held-out problems: each share, each pair, each group of seeds.

Runs are compared only where the numbers mean the same: same problems, same prompt and reply form,
same length limit, greedy.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from xmlgrpo_evaluator.results.paired import Difference, Paired, pair
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.interval import Share
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import Manifest
from xmlgrpo_viewer.compare.statistics import holm, seeds_interval
from xmlgrpo_viewer.page.settings import flat, gpu_hours
from xmlgrpo_viewer.reading.run_view import Answers, RunView, read_run

BASE = "base"
NOT_OF_A_RECIPE = ("seed", "watch.")  # keys in which runs of one configuration may differ


@dataclass(frozen=True, slots=True)
class Side:
    """One set of answers: a run's, or those of the base that it started from."""

    name: str
    answers: Answers
    view: RunView | None  # None for the base

    @property
    def right(self) -> list[bool]:
        """Item by item: right in the asked form."""
        return [item.strict_correct for item in self.answers.items]

    @property
    def share(self) -> Share:
        """Of all problems."""
        return self.answers.share("strict_correct")


@dataclass(frozen=True, slots=True)
class PairOfSides:
    """Two sides on the same problems."""

    first: str
    second: str
    table: Paired
    p_holm: float  # adjusted for the number of pairs

    @property
    def difference(self) -> Difference:
        """Second minus first."""
        return self.table.difference


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of one configuration with several seeds, against the base."""

    names: tuple[str, ...]
    mean: float
    lowest: float
    highest: float
    gain: Difference | None  # of the mean over the base, seeds and problems drawn again
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Compared:
    """Everything that a comparison shows."""

    sides: tuple[Side, ...]  # the base first, where all runs have the same one
    pairs: tuple[PairOfSides, ...]
    groups: tuple[Group, ...]
    differing: Mapping[str, tuple[str, ...]]  # setting -> its value in each run
    notes: tuple[str, ...]

    @property
    def views(self) -> list[RunView]:
        """The runs."""
        return [side.view for side in self.sides if side.view is not None]


def compare_runs(runs: Sequence[RunFolder]) -> Compared:
    """Compare finished runs.

    Raises:
        UserError: fewer than two, one is named twice or not finished, or they were not asked the
            same problems in the same way; says which differ and in what.
    """
    if len(runs) < 2:
        raise UserError('expected two runs or more, as in RUNS="a b"')
    roots = [run.root.resolve() for run in runs]
    if len(set(roots)) < len(roots):
        twice = next(run for run in runs if roots.count(run.root.resolve()) > 1)
        raise UserError(f"{twice.called} is named twice; name each run once")
    views = [_finished(run) for run in runs]
    _require_same_questions(views)
    names = _names(views)
    sides = [
        Side(name, view.after, view)
        for name, view in zip(names, views, strict=True)
        if view.after is not None
    ]
    base, notes = _base(views)
    everyone = [*([base] if base else []), *sides]
    return Compared(
        sides=tuple(everyone),
        pairs=tuple(_pairs(everyone)),
        groups=tuple(_groups(sides, base)),
        differing=_differing(views),
        notes=tuple(notes),
    )


def _finished(run: RunFolder) -> RunView:
    view = read_run(run)
    if view.manifest is None or view.after is None:
        why = view.unread[0] if view.unread else "its training is not finished"
        raise UserError(f"{run.called} cannot be compared: {why}")
    return view


def _require_same_questions(views: Sequence[RunView]) -> None:
    asked = {view.run.called: _asked(view) for view in views}
    first_name, first = next(iter(asked.items()))
    for name, how in asked.items():
        for what, value in how.items():
            if value != first[what]:
                shown = "" if what == "problems" else f" ({first[what]} and {value})"
                raise UserError(
                    f"{first_name} and {name} are not comparable: they were asked with other "
                    f"{what}{shown}; evaluate both on the same test items (make eval) and use "
                    "xmlgrpo-eval compare"
                )


def _asked(view: RunView) -> dict[str, Any]:
    manifest = view.manifest
    assert manifest is not None and view.after is not None  # noqa: S101 - by _finished
    return {
        "task": manifest.task,
        "reply form (format_version)": manifest.format_version,
        "length limit": manifest.max_reply_tokens,
        "problems": [(item.id, item.question, item.gold) for item in view.after.items],
    }


def _names(views: Sequence[RunView]) -> list[str]:
    """Each run's name; its folder where two have the same one."""
    short = [view.run.name for view in views]
    return [
        view.run.called
        if short.count(view.run.name) > 1 or view.run.name == BASE
        else view.run.name
        for view in views
    ]


def _base(views: Sequence[RunView]) -> tuple[Side | None, list[str]]:
    """The base's answers, if every run began with the same ones."""
    before = [view.before for view in views]
    first = before[0]
    if first is None or any(one is None for one in before):
        return None, ["a run has no answers from before training: there is no base to compare with"]
    right = [[item.strict_correct for item in one.items] for one in before if one]
    if any(other != right[0] for other in right):
        return None, [
            "the runs began from bases that answer differently, so none of them is shown as the base"
        ]
    return Side(BASE, first, None), []


def _pairs(sides: Sequence[Side]) -> Iterator[PairOfSides]:
    tables = [(a, b, pair(a.right, b.right)) for a, b in combinations(sides, 2)]
    adjusted = holm([table.p_value for _, _, table in tables])
    for (a, b, table), p in zip(tables, adjusted, strict=True):
        yield PairOfSides(a.name, b.name, table, p)


def _groups(sides: Sequence[Side], base: Side | None) -> Iterator[Group]:
    recipes: dict[str, list[Side]] = {}
    for side in sides:
        recipes.setdefault(_recipe(side), []).append(side)
    for members in recipes.values():
        shares = [side.share.value for side in members]
        gain = seeds_interval([side.right for side in members], base.right) if base else None
        view = members[0].view
        yield Group(
            names=tuple(side.name for side in members),
            mean=sum(shares) / len(shares),
            lowest=min(shares),
            highest=max(shares),
            gain=gain,
            config=view.manifest.config if view and view.manifest else {},
        )


def _recipe(side: Side) -> str:
    """What runs of one configuration have in common: all settings but the seed."""
    manifest = _manifest(side.view)
    kept = {
        key: value
        for key, value in flat(manifest.config)
        if not key.startswith(NOT_OF_A_RECIPE) and key != "seed"
    }
    return repr(sorted(kept.items()))


def _manifest(view: RunView | None) -> Manifest:
    assert view is not None and view.manifest is not None  # noqa: S101 - by _finished
    return view.manifest


def _differing(views: Sequence[RunView]) -> dict[str, tuple[str, ...]]:
    settings = [dict(flat(_manifest(view).config)) for view in views]
    keys = dict.fromkeys(key for one in settings for key in one)
    rows = {key: tuple(str(one.get(key, "")) for one in settings) for key in keys}
    return {key: values for key, values in rows.items() if len(set(values)) > 1}


def as_json(compared: Compared) -> dict[str, Any]:
    """The comparison for machines."""
    return {
        "format": 1,
        "problems": len(compared.sides[0].answers.items),
        "measure": "strict_accuracy",
        "sides": [
            {
                "name": side.name,
                "hits": side.share.hits,
                "total": side.share.total,
                "low": side.share.low,
                "high": side.share.high,
                "gpu_hours": gpu_hours(side.view) if side.view else None,
            }
            for side in compared.sides
        ],
        "pairs": [
            {
                "first": one.first,
                "second": one.second,
                "gained": one.table.only_second,
                "lost": one.table.only_first,
                "difference": one.difference.value,
                "low": one.difference.low,
                "high": one.difference.high,
                "p": one.table.p_value,
                "p_holm": one.p_holm,
            }
            for one in compared.pairs
        ],
        "groups": [
            {
                "runs": list(group.names),
                "mean": group.mean,
                "lowest": group.lowest,
                "highest": group.highest,
                "gain": None if group.gain is None else group.gain.value,
                "gain_low": None if group.gain is None else group.gain.low,
                "gain_high": None if group.gain is None else group.gain.high,
            }
            for group in compared.groups
        ],
        "differing": {key: list(values) for key, values in compared.differing.items()},
        "notes": list(compared.notes),
    }
