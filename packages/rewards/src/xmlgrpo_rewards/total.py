"""Named weights -> reward functions -> one number per completion, and its breakdown.

A reward is named by one of the five classic names, by a short name that the task has given to one
of its own, or by an import path `package.module:function`.  An import path runs the code behind it:
it comes from the user's own configuration.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from xmlgrpo_rewards import scores
from xmlgrpo_rewards.errors import UserError, did_you_mean
from xmlgrpo_rewards.grading import grades
from xmlgrpo_rewards.reply import completion_text
from xmlgrpo_rewards.task import Grade, Task, extras

RewardFunction = Callable[..., Sequence[float | None]]
SHOWN_CHARS = 200  # of a completion in an error

CLASSIC: Mapping[str, Callable[..., list[float]]] = {
    function.__name__: function
    for function in (
        scores.correctness_reward_func,
        scores.int_reward_func,
        scores.strict_format_reward_func,
        scores.soft_format_reward_func,
        scores.xmlcount_reward_func,
    )
}


@dataclass(frozen=True, slots=True)
class WeightedReward:
    """A reward function under the name that the configuration gave it."""

    name: str
    weight: float
    function: RewardFunction


@dataclass(frozen=True, slots=True)
class Total:
    """What one completion earns."""

    value: float  # the weighted sum
    parts: dict[str, float | None]  # score before its weight; None: the function had no opinion


def load_rewards(spec: Mapping[str, float], task: Task | None = None) -> list[WeightedReward]:
    """Find the functions behind `spec`: name or import path -> weight.

    Args:
        spec: the configuration's `rewards`.
        task: whose short names may be used.

    Raises:
        UserError: nothing is named, a name or path leads to no function, two lead to the same one,
            or a weight is not a finite number.
    """
    if not spec:
        there = ", ".join(_named(task))
        raise UserError(f"expected at least one reward, got none; there are: {there}")
    rewards = [
        WeightedReward(name=name, weight=_weight(name, weight), function=_find(name, task))
        for name, weight in spec.items()
    ]
    if not any(reward.weight for reward in rewards):
        raise UserError("expected a reward with a weight other than 0, got only zeros")
    first_name: dict[int, str] = {}
    for reward in rewards:
        earlier = first_name.setdefault(id(reward.function), reward.name)
        if earlier != reward.name:
            raise UserError(f"{earlier!r} and {reward.name!r} are the same reward; name it once")
    return rewards


def check_reward_names(names: Iterable[str], task: Task | None = None) -> None:
    """Find the rewards that have a name of ours; an import path may import anything, and waits.

    Raises:
        UserError: a name leads to no function.
    """
    for name in names:
        if ":" not in name:
            _find(name, task)


def score(
    reward: WeightedReward, completions: Sequence[Any], prompts: object = None, **columns: object
) -> list[float | None]:
    """Call one reward function and check what it returns, before its weight: the one checker.

    Args:
        reward: from `load_rewards`.
        completions: texts or message lists.
        prompts: what was asked, for the functions that read it.
        columns: the other columns of the data set, such as `answer`.

    Raises:
        UserError: the function raised, or did not return one finite number (or None) per
            completion; names the function and the completion.
    """
    try:
        returned = reward.function(prompts=prompts, completions=completions, **columns)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"the reward {reward.name!r} raised {type(error).__name__}: {error}; correct it or "
            f"take it out of `rewards`. The first completion was {_shown(completions[0])}"
        ) from error
    if not isinstance(returned, Sequence) or len(returned) != len(completions):
        got = f"{len(returned)}" if isinstance(returned, Sequence) else type(returned).__name__
        raise UserError(
            f"the reward {reward.name!r} must return a list of {len(completions)} numbers, one per "
            f"completion; got {got}"
        )
    return [
        _checked(reward.name, completion, value)
        for completion, value in zip(completions, returned, strict=True)
    ]


def total(
    rewards: Sequence[WeightedReward], completions: Sequence[Any], **columns: object
) -> list[Total]:
    """Score every completion with every reward; errors as in `score`."""
    by_reward = [score(reward, completions, **columns) for reward in rewards]
    return [
        Total(
            value=math.fsum(
                reward.weight * part
                for reward, part in zip(rewards, parts, strict=True)
                if part is not None
            ),
            parts={reward.name: part for reward, part in zip(rewards, parts, strict=True)},
        )
        for parts in zip(*by_reward, strict=True)
    ]


def _weight(name: str, weight: object) -> float:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise UserError(f"rewards.{name}: expected a finite number as weight, got {weight!r}")
    return float(weight)


def _checked(name: str, completion: object, value: object) -> float | None:
    if value is None:  # no opinion on this one
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(
            f"the reward {name!r} must return finite numbers; got {value!r} for the completion "
            f"{_shown(completion)}"
        )
    return float(value)


def _shown(completion: Any) -> str:
    text = completion_text(completion)
    return repr(text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "…")


def _find(name: str, task: Task | None) -> RewardFunction:
    if ":" in name:
        return _import(name)
    named = _named(task)
    if name not in named:
        raise UserError(
            f"no reward is named {name!r}; there are: {', '.join(named)}; or give the import path "
            f"of your own, as package.module:function{did_you_mean(name, named)}"
        )
    return named[name]


def _named(task: Task | None) -> dict[str, RewardFunction]:
    """Every reward that has a name: the task's own first."""
    if task is None:
        return dict(CLASSIC)
    own = {name: _paid(task, pay) for name, pay in extras(task).rewards.items()}
    return {**own, **CLASSIC}


def _paid(task: Task, pay: Callable[[Grade], float]) -> RewardFunction:
    """A reward in trl's signature that pays by the task's grade."""

    def reward(completions: Sequence[Any], **columns: object) -> list[float]:
        return [pay(grade) for grade in grades(task, completions, columns)]

    return reward


def _import(path: str) -> RewardFunction:
    module_name, _, function_name = path.partition(":")
    try:
        module = import_module(module_name)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"the reward {path!r}: cannot import {module_name!r} ({error}); install it, or put its "
            "folder on PYTHONPATH"
        ) from error
    except Exception as error:  # whatever the user's own module does when it is imported
        raise UserError(
            f"the reward {path!r}: importing {module_name!r} raised {type(error).__name__}: "
            f"{error}; correct that module"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        callables = [name for name, value in vars(module).items() if callable(value)]
        near = did_you_mean(function_name, callables)
        raise UserError(
            f"the reward {path!r}: {module_name} has no function {function_name!r}{near}"
        )
    found: RewardFunction = function
    return found
