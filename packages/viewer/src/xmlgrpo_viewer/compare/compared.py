"""Finished runs on the same held-out problems: each share, each pair, each group of seeds.

Runs are compared only where the numbers mean the same: same problems, same prompt and reply form,
same length limit, greedy.  A comparison stands on each run's manifest and the held-out replies that
it has the hashes of; what else training left and is gone is named in a note, as not checked.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.interval import Share
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import Manifest, require_as_trained
from xmlgrpo_run.measures.holdout import HoldoutResult
from xmlgrpo_run.measures.paired import Difference, Paired, pair
from xmlgrpo_viewer.compare.statistics import holm, seeds_interval
from xmlgrpo_viewer.page.settings import energy_kwh, flat, gpu_hours
from xmlgrpo_viewer.reading.run_view import RunView, read_run

BASE = "base"
# what differs -> what can be done where no evaluation makes the two comparable
ADVICE = {
    "task": "compare runs of one task",
    "reply form": "train both with one version of xmlgrpo",
}
NOT_OF_A_RECIPE = "watch."  # such settings change nothing that is learned


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that can be compared."""

    view: RunView
    manifest: Manifest
    after: HoldoutResult


@dataclass(frozen=True, slots=True)
class Side:
    """One set of answers: a run's, or those of the base that it started from."""

    name: str
    answers: HoldoutResult
    run: Finished | None  # None for the base

    @property
    def right(self) -> list[bool]:
        """Item by item: right in the asked form."""
        return [item.strict_correct for item in self.answers.items]

    @property
    def share(self) -> Share:
        """Of all problems."""
        return self.answers.share("strict_correct")

    @property
    def gpu_hours(self) -> float | None:
        """Of its training; None where that ran on a CPU."""
        return gpu_hours(self.run.manifest) if self.run else None

    @property
    def energy_kwh(self) -> float | None:
        """Of its training, where that is known."""
        return energy_kwh(self.run.view) if self.run else None


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


@dataclass(frozen=True, slots=True)
class Compared:
    """Everything that a comparison shows."""

    sides: tuple[Side, ...]  # the base first, where all runs have the same one
    pairs: tuple[PairOfSides, ...]
    groups: tuple[Group, ...]
    differing: Mapping[str, tuple[str, ...]]  # setting -> its value in each run
    notes: tuple[str, ...]

    @property
    def runs(self) -> list[Finished]:
        """The runs, without the base."""
        return [side.run for side in self.sides if side.run is not None]


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
    finished = [_finished(run) for run in runs]
    _require_same_questions(finished)
    names = _names(finished)
    sides = [Side(name, run.after, run) for name, run in zip(names, finished, strict=True)]
    base, notes = _base(finished)
    everyone = [*([base] if base else []), *sides]
    return Compared(
        sides=tuple(everyone),
        pairs=tuple(_pairs(everyone)),
        groups=tuple(_groups(sides, finished, base)),
        differing=_differing(finished),
        notes=(*_not_checked(finished), *notes, *_same_seeds(finished)),
    )


def _finished(run: RunFolder) -> Finished:
    view = read_run(run)
    if view.manifest is None or view.after is None:
        why = view.unread[0] if view.unread else "its training is not finished"
        raise UserError(f"{run.called} cannot be compared: {why}")
    for path in (run.holdout_after, *([run.holdout_before] if view.before else [])):
        require_as_trained(run, view.manifest, path)
    return Finished(view, view.manifest, view.after)


def _not_checked(runs: Sequence[Finished]) -> Iterator[str]:
    """What a run should have beside its replies, and has not."""
    for run in runs:
        folder = run.view.run
        yield from (f"{sentence}, and was not checked" for sentence in run.view.unread)
        for path in (folder.config, folder.identity):
            if str(path.relative_to(folder.root)) not in run.manifest.files:
                yield (
                    f"{folder.manifest} has no hash of {path.name}: what the run stood on is the "
                    "manifest's word alone"
                )


def _require_same_questions(runs: Sequence[Finished]) -> None:
    first, *others = runs
    wanted, a = _asked(first), first.view.run
    for other in others:
        b = other.view.run
        results = shlex.join(str(run.eval / "tuned.json") for run in (a, b))
        evaluate = (
            f"evaluate both on the same items (make eval RUN={a.called}, make eval RUN={b.called}) "
            f"and compare: .venv/bin/xmlgrpo-eval compare {results}"
        )
        for what, value in _asked(other).items():
            if value != wanted[what]:
                shown = "" if what == "problems" else f" ({wanted[what]} and {value})"
                advice = ADVICE.get(what, evaluate)
                sources = {run.manifest.data.source for run in (first, other)}
                if what == "problems" and sources == {"generated"}:  # no test split to share
                    advice = "train both with the same data.seed, as make seeds does"
                raise UserError(
                    f"{a.called} and {b.called} are not comparable: they were asked with other "
                    f"{what}{shown}; {advice}"
                )


def _asked(run: Finished) -> dict[str, Any]:
    """What must be the same for two numbers to mean the same."""
    return {
        "task": run.manifest.task,
        "reply form": run.manifest.format_version,
        "length limit": run.manifest.max_reply_tokens,
        "problems": [(item.id, item.question, item.gold) for item in run.after.items],
    }


def _names(runs: Sequence[Finished]) -> list[str]:
    """Each run's name; its folder where two have the same one."""
    short = [run.view.run.name for run in runs]
    return [
        run.view.run.called if short.count(name) > 1 or name == BASE else name
        for run, name in zip(runs, short, strict=True)
    ]


def _base(runs: Sequence[Finished]) -> tuple[Side | None, list[str]]:
    """The base's answers, if every run began with the same ones."""
    before = [run.view.before for run in runs if run.view.before is not None]
    if len(before) < len(runs):
        return None, ["a run has no answers from before training: there is no base to compare with"]
    first, *others = before
    right = [item.strict_correct for item in first.items]
    if any([item.strict_correct for item in other.items] != right for other in others):
        return None, ["the runs began from bases that answer differently: no base is shown"]
    return Side(BASE, first, None), []


def _pairs(sides: Sequence[Side]) -> Iterator[PairOfSides]:
    tables = [(a, b, pair(a.right, b.right)) for a, b in combinations(sides, 2)]
    adjusted = holm([table.p_value for _, _, table in tables])
    for (a, b, table), p in zip(tables, adjusted, strict=True):
        yield PairOfSides(a.name, b.name, table, p)


def _groups(sides: Sequence[Side], runs: Sequence[Finished], base: Side | None) -> Iterator[Group]:
    recipes: dict[str, list[Side]] = {}
    for side, run in zip(sides, runs, strict=True):
        recipes.setdefault(_recipe(run.manifest), []).append(side)
    for members in recipes.values():
        shares = [side.share.value for side in members]
        yield Group(
            names=tuple(side.name for side in members),
            mean=sum(shares) / len(shares),
            lowest=min(shares),
            highest=max(shares),
            gain=seeds_interval([side.right for side in members], base.right) if base else None,
        )


def _same_seeds(runs: Sequence[Finished]) -> Iterator[str]:
    """Runs that differ in nothing that decides what is learned: they are no two seeds."""
    alike: dict[tuple[str, int], list[str]] = {}
    for run in runs:
        key = _recipe(run.manifest), run.manifest.seed
        alike.setdefault(key, []).append(run.view.run.called)
    for (_, seed), names in alike.items():
        if len(names) > 1:
            yield f"the seed is {seed} in all of {', '.join(names)}: they say nothing about seeds"


def _recipe(manifest: Manifest) -> str:
    """What runs of one configuration have in common: all settings but the seed."""
    settings = flat(manifest.config)
    kept = [(key, value) for key, value in settings if not key.startswith(NOT_OF_A_RECIPE)]
    return repr(sorted((key, value) for key, value in kept if key != "seed"))


def _differing(runs: Sequence[Finished]) -> dict[str, tuple[str, ...]]:
    settings = [dict(flat(run.manifest.config)) for run in runs]
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
                "gpu_hours": side.gpu_hours,
                "energy_kwh": side.energy_kwh,
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
