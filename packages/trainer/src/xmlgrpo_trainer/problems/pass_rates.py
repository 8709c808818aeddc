"""How often problems are solved: measured before, renewed by each step's replies, drawn from.

A problem that is always or never solved has no group with a better and a worse reply, and teaches
GRPO nothing (DAPO, arXiv 2503.14476, section 3.2).  Which problems these are changes while the
policy learns: the newest replies count most, and some problems from outside of the band are asked
again.  A problem that was missed comes back to its first rate with time (`sampling.half_life`):
what the policy could before it can mostly do again, and meanwhile it has learnt from others.
"""

import random
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.rows import BadRows, Row, text_rows
from xmlgrpo_trainer.config.run_config import SamplingConfig

# what a step logs of its draws
TAUGHT = "draws/taught_tokens"  # of all drawn tokens, those of groups that are learnt from
MIXED = "draws/mixed_groups"  # of all drawn groups, those with right and wrong replies
INSIDE = "draws/in_band"  # families

MOST_ASKED = 10**9
KEPT = 0.5  # of what earlier replies count for, when new ones come


class PassRate(NamedTuple):
    """How a problem's replies were graded."""

    right: float  # how many were right
    asked: float  # how many there were; 0 where it was not asked
    family: Hashable  # its problems, such as the same story with other numbers, have one rate


def read_pass_rates(path: Path) -> dict[str, PassRate]:
    """Question -> its rate, of a file of JSON lines.

    A line has `question`, `right` and `asked`, and may have `family`.

    Raises:
        UserError: the file cannot be read, or rows are no rates.
    """
    bad = BadRows()
    read = [bad.tried(row.id, _rate, row) for row in text_rows(path, bad)]
    bad.refuse()
    return dict(filter(None, read))


def _rate(row: Row) -> tuple[str, PassRate]:
    question, right, asked = (row.fields.get(key) for key in ("question", "right", "asked"))
    if not (isinstance(question, str) and type(right) is type(asked) is int):
        raise UserError(f"row {row.id}: expected question, right and asked, got {row.fields}")
    if not 0 <= right <= asked <= MOST_ASKED:
        raise UserError(
            f"row {row.id}: expected 0 <= right <= asked <= {MOST_ASKED}, got {right} and {asked}"
        )
    family = row.fields.get("family")
    return question, PassRate(right, asked, question if family is None else f"={family}")


@dataclass(frozen=True, slots=True)
class _Belief:
    """What is thought of a family."""

    first_right: float = 0  # as measured before the run
    first_asked: float = 0
    right: float = 0  # with the run's own replies, the newest of which count most
    asked: float = 0
    noted: int = 0  # the number of draws before the newest replies
    turn: int = 0  # how many of its problems were drawn

    def measured(self, rate: PassRate) -> "_Belief":
        """With the rate of one more of its problems."""
        right, asked = self.first_right + rate.right, self.first_asked + rate.asked
        return _Belief(right, asked, right, asked)

    def rate(self, now: int, half_life: float | None) -> float | None:
        """The share of right replies, None where nothing is known.

        A rate below the first one comes back to that: what it rests on counts half as much after
        each half-life.
        """
        if not self.asked:
            return None
        own = self.right / self.asked
        if half_life is None or own * self.first_asked >= self.first_right:
            return own
        kept: float = 0.5 ** ((now - self.noted) / half_life)
        right = kept * self.right + (1 - kept) * self.first_right
        return right / (kept * self.asked + (1 - kept) * self.first_asked)


@dataclass(slots=True)
class _Walk:
    """Goes through the families again and again, each time in another order."""

    families: Sequence[Hashable]
    name: str
    round: int = -1  # before the first
    place: int = 0
    _order: Sequence[Hashable] = ()

    def go(self) -> Iterator[Hashable]:
        """The families from where the last walk ended, until each has come."""
        passed: set[Hashable] = set()
        while len(passed) < len(self.families):
            if self.place >= len(self._order):
                self.place_at(self.round + 1, 0)
            self.place += 1
            family = self._order[self.place - 1]
            if family not in passed:
                passed.add(family)
                yield family

    def place_at(self, round_: int, place: int) -> None:
        """Go on from a place in a round."""
        self.round, self.place = round_, place
        # the same seed, the same order: no secret depends on it
        rng = random.Random(f"{self.name} {round_}")  # noqa: S311
        self._order = rng.sample(self.families, len(self.families)) if round_ >= 0 else ()


class Draws:
    """Draws problems by their pass rates; the same ones again for a seed and the same replies.

    Families take turns, whatever their number of problems, and of a family its problems do.

    Args:
        rates: of each problem, in the problems' order.
        settings: the band, and how many are drawn from outside of it.
    """

    def __init__(self, rates: Sequence[PassRate], settings: SamplingConfig, seed: int) -> None:
        self.settings = settings
        self._family = [rate.family for rate in rates]
        self._members: dict[Hashable, list[int]] = {}
        self._beliefs: dict[Hashable, _Belief] = {}
        for number, rate in enumerate(rates):
            belief = self._beliefs.get(rate.family, _Belief())
            self._beliefs[rate.family] = belief.measured(rate)
            self._members.setdefault(rate.family, []).append(number)
        families = list(self._members)
        self._inside = _Walk(families, f"inside {seed}")
        self._outside = _Walk(families, f"outside {seed}")
        self._draws = 0
        for members in self._members.values():
            random.Random(f"members {seed} {members[0]}").shuffle(members)  # noqa: S311 - as above

    def take(self, count: int) -> list[int]:
        """Numbers of problems to ask now; fewer families than that are asked more than once."""
        self._draws += 1
        outside = round(self.settings.explore * count)
        found = self._some(self._inside, count - outside, is_inside=True)
        found += self._some(self._outside, count - len(found), is_inside=False)
        while len(found) < count:
            found += self._some(self._inside, count - len(found), is_inside=None)
        return [self._next_of(family) for family in found]

    def _some(self, walk: _Walk, count: int, *, is_inside: bool | None) -> list[Hashable]:
        if not count:
            return []
        found: list[Hashable] = []
        for family in walk.go():
            if is_inside is None or self.is_inside(family) == is_inside:
                found.append(family)
                if len(found) == count:
                    break
        return found

    def _next_of(self, family: Hashable) -> int:
        members, belief = self._members[family], self._beliefs[family]
        self._beliefs[family] = replace(belief, turn=belief.turn + 1)
        return members[belief.turn % len(members)]

    def is_inside(self, family: Hashable) -> bool:
        """Whether a family is in the band, or not known yet."""
        rate = self._beliefs[family].rate(self._draws, self.settings.half_life)
        low, high = self.settings.band or (0.0, 1.0)
        return rate is None or low <= rate <= high

    def note(self, problem: int, right: int, asked: int) -> None:
        """Renew a rate by the newest replies."""
        family = self._family[problem]
        known = self._beliefs[family]
        self._beliefs[family] = replace(
            known,
            right=KEPT * known.right + right,
            asked=KEPT * known.asked + asked,
            noted=self._draws,
        )

    def families_inside(self) -> int:
        """How many families are in the band now."""
        return sum(map(self.is_inside, self._beliefs))

    def state(self) -> dict[str, Any]:
        """What `restore` needs, of what JSON can hold."""
        walks = [[walk.round, walk.place] for walk in (self._inside, self._outside)]
        known = [[one.right, one.asked, one.noted, one.turn] for one in self._beliefs.values()]
        return {"draws": self._draws, "walks": walks, "known": known}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was read."""
        self._draws = state["draws"]
        walks = (self._inside, self._outside)
        for walk, (round_, place) in zip(walks, state["walks"], strict=True):
            walk.place_at(round_, place)
        for (family, one), (right, asked, noted, turn) in zip(
            self._beliefs.items(), state["known"], strict=True
        ):
            self._beliefs[family] = replace(one, right=right, asked=asked, noted=noted, turn=turn)
