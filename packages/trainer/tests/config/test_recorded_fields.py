"""What is recorded of trl's and peft's dataclasses is what the libraries say."""

import dataclasses
import json
import subprocess
import sys
import typing
from enum import Enum
from typing import Any, Literal, Optional, Union

import pytest

from ci.remake.recorded_fields import file_text, type_text
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config import recorded_fields
from xmlgrpo_trainer.config.library_fields import check_grpo, check_lora
from xmlgrpo_trainer.config.recorded_fields import (
    FILE,
    SOURCES,
    library_class,
    library_schema,
    recorded_defaults,
)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Inner:
    size: int = 1


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        pytest.param(int, "int", id="builtin"),
        pytest.param(Any, "Any", id="anything"),
        pytest.param(int | None, "int | None", id="union"),
        pytest.param(Optional[float], "float | None", id="optional"),  # noqa: UP045 - peft writes so
        pytest.param(Union[str, list[str], None], "list[str] | str | None", id="list"),  # noqa: UP007
        pytest.param(Literal["a", False], "Literal['a', False]", id="literal"),
        pytest.param(dict[str, Any] | str, "dict[str, Any] | str", id="mapping"),
        pytest.param(Colour | str, "Literal['red', 'blue']", id="enum-beside-text"),
        pytest.param(list[Colour], "list[Literal['red', 'blue']]", id="enums"),
        pytest.param(Inner | None, "dict[str, Any] | None", id="dataclass"),
        pytest.param(Inner | dict, "dict | dict[str, Any]", id="dataclass-or-mapping"),
        pytest.param(list[tuple[int, int]], "list[tuple[int, int]]", id="pairs"),
    ],
)
def test_a_type_is_written_in_terms_of_what_yaml_holds(hint: Any, text: str) -> None:
    assert type_text(hint) == text


@pytest.mark.parametrize(
    "version", [pytest.param(None, id="installed"), pytest.param("0.1", id="not-recorded")]
)
@pytest.mark.parametrize(
    ("name", "field", "default"), [("GRPOConfig", "beta", 0.0), ("LoraConfig", "bias", "none")]
)
def test_defaults_are_known_whatever_version_is_installed(
    name: str,
    field: str,
    default: Any,
    version: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if version:
        monkeypatch.setattr(recorded_fields, "installed_version", lambda _: version)
    assert recorded_defaults(name)[field] == default


def test_the_file_is_what_the_installed_libraries_say() -> None:
    assert FILE.read_text(encoding="utf-8") == file_text(), (
        "run python -m ci.remake.recorded_fields"
    )


@pytest.mark.parametrize("name", SOURCES)
def test_the_stand_in_has_the_fields_types_and_defaults_of_the_class(name: str) -> None:
    stand_in, real = library_schema(name), library_class(name)
    assert stand_in is not real
    assert typing.get_type_hints(stand_in).keys() == {
        field.name for field in dataclasses.fields(real) if field.init
    }
    for field in dataclasses.fields(stand_in):
        of_library = next(f for f in dataclasses.fields(real) if f.name == field.name)
        if of_library.default is not dataclasses.MISSING:
            assert field.default == of_library.default


def test_other_versions_are_read_from_the_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: typing.Any
) -> None:
    recorded = json.loads(FILE.read_text(encoding="utf-8"))
    for record in recorded["GRPOConfig"]:
        record["versions"]["trl"] = "0.0.1"
    other = tmp_path / "recorded_fields.json"
    other.write_text(json.dumps(recorded))
    monkeypatch.setattr(recorded_fields, "FILE", other)
    library_schema.cache_clear()
    try:
        assert library_schema("GRPOConfig") is library_class("GRPOConfig")
        assert library_schema("LoraConfig") is not library_class("LoraConfig")
    finally:
        library_schema.cache_clear()


@pytest.mark.parametrize(
    ("check", "name", "values"),
    [
        pytest.param(check_grpo, "GRPOConfig", {"max_steps": "3"}, id="text"),
        pytest.param(check_grpo, "GRPOConfig", {"learning_rat": 1}, id="typo"),
        pytest.param(check_grpo, "GRPOConfig", {"seed": 1}, id="reserved"),
        pytest.param(check_grpo, "GRPOConfig", {"num_generations": 2.5}, id="fraction"),
        pytest.param(check_grpo, "GRPOConfig", {"save_strategy": 3}, id="number-for-an-enum"),
        pytest.param(check_lora, "LoraConfig", {"r": "8"}, id="lora-text"),
        pytest.param(check_lora, "LoraConfig", {"bias": "some"}, id="lora-choice"),
        pytest.param(check_lora, "LoraConfig", {"target_modules": ["lm_head"]}, id="tied"),
    ],
)
def test_both_refuse(check: Any, name: str, values: dict[str, Any]) -> None:
    for schema in (library_schema(name), library_class(name)):
        with pytest.raises(UserError, match=next(iter(values))):
            check(values, schema)


def test_reading_the_record_imports_no_library() -> None:
    code = (
        "import sys\n"
        "from xmlgrpo_trainer.config.library_fields import check_grpo, check_lora\n"
        "check_grpo({'max_steps': 3})\n"
        "check_lora({'r': 3})\n"
        "print([m for m in ('torch', 'transformers', 'trl', 'peft') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
