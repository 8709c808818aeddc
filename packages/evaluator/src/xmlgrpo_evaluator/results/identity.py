"""What a result is a result of: which model, asked what and how.  Nothing else is taken for it."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from xmlgrpo_evaluator.results.result import read_result
from xmlgrpo_evaluator.setup.engines import engines_of, may_stand_for
from xmlgrpo_evaluator.setup.models import Model
from xmlgrpo_evaluator.setup.settings import Settings
from xmlgrpo_rewards.errors import UserError


def subject_of(model: Model, settings: Settings, data_digest: str | None) -> dict[str, Any]:
    """The subject of an evaluation; JSON values."""
    engine = {"engine": settings.engine} if model.backend == "hf" else {}
    subject: dict[str, Any] = plain(
        {"model": model.identity(), **engine, **settings.identity(data_digest)}
    )
    return subject


def read_result_of(path: Path, subject: Mapping[str, Any]) -> dict[str, Any]:
    """Read a finished result, and only one of this very subject.

    Raises:
        UserError: it is of another model, other settings or other items; or it cannot be read.
    """
    result = read_result(path)
    differing = differences(result["subject"], subject, engines_of(result))
    if differing:
        raise UserError(
            f"{path} is the result of another evaluation (another {', '.join(differing)}); delete "
            "it, or have this one written elsewhere (--model with --out)"
        )
    return result


def differences(
    found: Mapping[str, Any], subject: Mapping[str, Any], answered: Collection[str]
) -> list[str]:
    """The names of what is not the same in two subjects.

    A model with files is the same wherever they lie: a run that was moved keeps its results.  Of
    engines it counts which ones answered (`answered`), not which was asked for.
    """
    return [
        key
        for key in subject
        if found.get(key) != subject[key]
        and not (key == "model" and _is_same_model(found.get(key), subject[key]))
        and not (key == "engine" and may_stand_for(answered, subject[key]))
    ]


def _is_same_model(found: Any, model: Mapping[str, Any]) -> bool:
    content = model.get("content")
    return content is not None and isinstance(found, Mapping) and found.get("content") == content


def plain(value: Any) -> Any:
    """JSON values only: lm-eval's records hold functions, dtypes and NaN."""
    return json.loads(
        json.dumps(value, default=_name, allow_nan=True), parse_constant=lambda _constant: None
    )


def _name(value: Any) -> str:
    return str(getattr(value, "__name__", value))
