"""docs/configuration.md says what the code does: keys, defaults, the figures of its recipes."""

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from xmlgrpo_trainer.config.defaults import GRPO_DEFAULTS
from xmlgrpo_trainer.config.run_config import RunConfig, load_config
from xmlgrpo_trainer.plan.gpus import find_gpu
from xmlgrpo_trainer.plan.make import make_plan

ROOT = Path(__file__).parents[4]
DOCUMENT = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
IN_WORDS = {
    "rewards": "the five classic functions, each with weight 1",
    "lora": "empty",
    "grpo": "empty",
    "model.tiny": "empty",
}


def keys(section: BaseModel, prefix: str = "") -> dict[str, object]:
    """Dotted key -> default."""
    found: dict[str, object] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            found |= keys(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def table_after(heading: str, until: str) -> list[list[str]]:
    """The rows of the tables between two headings, as cells."""
    part = DOCUMENT.split(heading, 1)[1].split(until, 1)[0]
    rows = [line for line in part.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return [row for row in cells if row[0] not in ("key", "field", "memory", "model", "---")]


KEYS = {row[0].strip("`"): row[1:] for row in table_after("## Keys", "## Sections that")}


def test_every_key_is_there_and_no_other() -> None:
    assert set(KEYS) == set(keys(RunConfig()))


@pytest.mark.parametrize(("key", "default"), keys(RunConfig()).items(), ids=list(keys(RunConfig())))
def test_the_default_is_the_real_one(key: str, default: object) -> None:
    documented, meaning = KEYS[key]
    assert len(meaning) > 10
    if key in IN_WORDS:
        assert documented == IN_WORDS[key]
    elif isinstance(default, str):  # YAML would read a bare `off` as false
        assert documented == f"`{default}`"
    else:
        assert yaml.safe_load(documented.strip("`")) == default


def test_our_own_defaults_of_grpo_are_the_real_ones() -> None:
    rows = table_after("## Sections that are handed on", "## Will it fit?")
    documented = {row[0].strip("`").removeprefix("grpo."): row[1].strip("`") for row in rows}
    assert documented == {name: str(value) for name, value in GRPO_DEFAULTS.items()}


RECIPES = table_after("### Recipes", "\n`per_device")


def test_there_are_recipes_for_every_size() -> None:
    assert {row[0].split()[0] for row in RECIPES} == {"8", "16", "24", "80"}


@pytest.mark.parametrize("row", RECIPES, ids=[f"{row[0]}-{row[1][9:-6]}" for row in RECIPES])
def test_a_recipe_fits_with_the_figure_that_is_given(row: list[str]) -> None:
    _memory, path, overrides, gpu, figure_gib = row
    config = load_config(ROOT / path.strip("`"), overrides.strip("`").split())
    planned = make_plan(config, find_gpu(gpu))
    assert planned.fits
    assert f"{planned.peak.total:.1f}" == figure_gib
