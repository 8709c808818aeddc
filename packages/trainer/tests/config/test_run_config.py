"""Strict YAML: what is read, and one clear sentence for what is not."""

from pathlib import Path
from typing import Any

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config.run_config import (
    RunConfig,
    check_config,
    completion_limit,
    config_sha256,
    holdout_limit,
    load_config,
    nearest,
    to_yaml,
)
from xmlgrpo_trainer.config.yaml_text import parse_yaml


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "")) == RunConfig()
    assert load_config(write(tmp_path, "# only words\n")) == RunConfig()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("sed: 1", "unknown key 'sed'; did you mean 'seed'?", id="top-level-typo"),
        pytest.param(
            "data: {limt: 3}", r"unknown key 'data\.limt'; did you mean 'limit'", id="typo"
        ),
        pytest.param("data: {zzz: 3}", "known: generated_rows, level, limit", id="far-from-any"),
        pytest.param("seed: '1'", "seed: input should be a valid integer, got '1'", id="text"),
        pytest.param("seed: 1.0", "seed: input should be a valid integer, got 1.0", id="float"),
        pytest.param("seed: -1", "greater than or equal to 0, got -1", id="negative"),
        pytest.param("seed: true", "valid integer, got True", id="boolean"),
        pytest.param("data: 3", r"data: input should be .*, got 3", id="section-is-a-number"),
        pytest.param("data: null", "data: input should be", id="section-is-null"),
        pytest.param("model: {dtype: float16}", "'bfloat16', got 'float16'", id="float16"),
        pytest.param("watch: {wandb: off}", "got False", id="yaml-off-is-a-boolean"),
        pytest.param("rewards: {}", "rewards is empty", id="no-rewards"),
        pytest.param(
            "rewards: {a: yes}", r"rewards\.a: input should be a valid number", id="weight"
        ),
        pytest.param("data: {source: json}", r"data\.path must name", id="json-without-path"),
        pytest.param("data: {path: x}", "read only with data.source 'json'", id="path-unused"),
        pytest.param(
            "model: {backend: unsloth, device: cpu}", "'unsloth' needs a GPU", id="unsloth-cpu"
        ),
        pytest.param("- 1", "expected keys and values, got list", id="a-list"),
        pytest.param("seed: 1\nseed: 2", "key 'seed' twice", id="key-twice"),
        pytest.param("data: {limit: 1, limit: 2}", "key 'limit' twice", id="inner-key-twice"),
        pytest.param(
            "x: &x {a: 1}\ndata: {<<: *x, limit: 1, limit: 2}", "'limit' twice", id="merged-twice"
        ),
        pytest.param("? [seed]\n: 1", "a key is no text", id="list-as-key"),
        pytest.param("seed: 2001-99-99", "month must be", id="no-such-date"),
        *(
            pytest.param(text, r"run\.yaml: not valid YAML", id=text[:30])
            for text in (
                *("seed: !!int ''", "seed: !!int '-'", "seed: !!float ''", "seed: !!bool x"),
                *("seed: !!timestamp x", "!!map x: 1", f"seed: 1{':59' * 3000}.5"),
            )
        ),
        pytest.param("seed: [1", r"run\.yaml line 1: not valid YAML", id="not-yaml"),
        pytest.param("seed: !!python/name:os.system", "not valid YAML", id="python-tag"),
    ],
)
def test_what_is_wrong_is_named_with_file_key_and_value(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        load_config(write(tmp_path, text))
    assert "run.yaml" in str(caught.value)


def test_every_mistake_is_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_config(write(tmp_path, "sed: 1\ndata: {limit: 0}\n"))
    assert "'sed'" in str(caught.value)
    assert "data.limit" in str(caught.value)


def test_a_name_alone_is_answered_with_those_in_configs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()
    Path("configs/mine.yaml").touch()
    with pytest.raises(UserError, match=r"'mine\.yaml': .*; there are configs/mine\.yaml"):
        load_config(Path("mine.yaml"))


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        pytest.param(None, r"No such file or directory; there are .*other\.yaml", id="none"),
        pytest.param(b"\xff\xfe", "it is not UTF-8; save it as UTF-8$", id="not-utf-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, content: bytes | None, advice: str
) -> None:
    path = tmp_path / "run.yaml"
    if content is not None:
        path.write_bytes(content)
    (tmp_path / "other.yaml").write_text("seed: 1\n", encoding="utf-8")
    with pytest.raises(UserError, match=rf"cannot read the configuration '.*run\.yaml': {advice}"):
        load_config(path)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        pytest.param("grpo.learning_rate=1e-5", 1e-5, id="exponent-without-point"),
        pytest.param("grpo.learning_rate=1.0e-5", 1e-5, id="exponent"),
        pytest.param("grpo.learning_rate=-2E+3", -2e3, id="capital-e"),
        pytest.param("grpo.optim=adamw_torch", "adamw_torch", id="text"),
        pytest.param("grpo.bf16=false", False, id="boolean"),
        pytest.param("grpo.top_k=null", None, id="null"),
        pytest.param("lora.target_modules=[q_proj, v_proj]", ["q_proj", "v_proj"], id="list"),
        pytest.param("lora.layer_pattern=a=b", "a=b", id="equals-in-the-value"),
        pytest.param("lora.layer_pattern=", None, id="nothing"),
    ],
)
def test_an_override_is_yaml(tmp_path: Path, override: str, value: object) -> None:
    config = load_config(write(tmp_path, "seed: 0"), [override])
    section, key = override.partition("=")[0].split(".")
    assert getattr(config, section)[key] == value


def test_the_last_override_wins_and_the_file_is_kept_beside_it(tmp_path: Path) -> None:
    path = write(tmp_path, "grpo: {max_steps: 5, beta: 0.1}")
    config = load_config(path, ["grpo.max_steps=6", "grpo.max_steps=7"])
    assert config.grpo == {"max_steps": 7, "beta": 0.1}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        pytest.param("grpo.max_steps", "expected an override like", id="no-equals"),
        pytest.param("=3", "expected an override like", id="no-key"),
        pytest.param("seed.x=3", "seed is 0, not a section", id="below-a-value"),
        pytest.param("data.limt=3", "and the overrides: .*did you mean 'limit'", id="typo"),
        pytest.param("seed=[", "override 'seed=\\['.*not valid YAML", id="not-yaml"),
    ],
)
def test_a_bad_override_is_refused(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_config(write(tmp_path, "seed: 0"), [override])


def test_what_is_written_out_reads_back_the_same(tmp_path: Path) -> None:
    raw: dict[str, Any] = {
        "seed": 3,
        "model": {"name": "google/gemma-3-1b-it", "tiny": {"layers": 2}},
        "grpo": {"learning_rate": 1e-05, "max_steps": 5},
        "rewards": {"my.module:reward": 0.5},
        "watch": {"wandb": "off"},
    }
    config = check_config(raw, "a test")
    again = load_config(write(tmp_path, to_yaml(config)))
    assert again == config
    assert config_sha256(again) == config_sha256(config)


def test_the_hash_tells_configurations_apart() -> None:
    hashes = {
        config_sha256(RunConfig()),
        config_sha256(RunConfig(seed=1)),
        config_sha256(RunConfig(grpo={"max_steps": 1})),
    }
    assert len(hashes) == 3


def test_nearest_is_quiet_where_nothing_is_known() -> None:
    assert nearest("x", []) == ""


def test_yaml_reads_exponents_as_numbers_only_when_they_are_whole_words() -> None:
    assert parse_yaml("[1e-5, 1e5, 3e, e5, 1.e3, a1e5]", "a test") == [
        1e-5,
        1e5,
        "3e",
        "e5",
        1e3,
        "a1e5",
    ]


@pytest.mark.parametrize(
    ("overrides", "completion", "held_out"),
    [
        pytest.param([], 512, 512, id="neither"),
        pytest.param(["grpo.max_completion_length=null"], 512, 512, id="null"),
        pytest.param(["grpo.max_completion_length=80"], 80, 80, id="completions"),
        pytest.param(["holdout.max_new_tokens=200"], 512, 200, id="held-out"),
    ],
)
def test_the_limit_of_a_reply_has_one_default(
    overrides: list[str], completion: int, held_out: int, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text("{}")
    config = load_config(tmp_path / "a.yaml", overrides)
    assert (completion_limit(config), holdout_limit(config)) == (completion, held_out)


def test_a_merge_key_gives_what_the_section_does_not_say_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "lora: &shared {<<: {r: 4, lora_alpha: 8}, r: 2}\n"
        "grpo:\n  <<: {learning_rate: 1e-5, max_steps: 9}\n  max_steps: 3\n"
        "model: {tiny: {<<: *shared, layers: 2}}\n"
    )
    config = load_config(path)
    assert config.grpo == {"learning_rate": 1e-5, "max_steps": 3}
    assert config.lora == {"r": 2, "lora_alpha": 8}
    assert config.model.tiny == {"r": 2, "lora_alpha": 8, "layers": 2}
