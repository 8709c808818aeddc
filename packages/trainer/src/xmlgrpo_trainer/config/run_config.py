"""The configuration of a run: strict typed YAML with dotted overrides.

Every key is declared here or is a field of a library's own dataclass: `grpo:` takes any field of
`trl.GRPOConfig`, `lora:` any field of `peft.LoraConfig`, `model.tiny:` any of `TinySettings`
(`library_fields.py` checks them).  An unknown key or a wrong type is an error before anything
heavy is imported, and names the file, the key, what it got and the nearest key that exists.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from xmlgrpo_rewards.console_script import LARGEST_SEED
from xmlgrpo_rewards.errors import UserError, did_you_mean
from xmlgrpo_rewards.task import CLASSIC_REWARDS
from xmlgrpo_trainer.config.defaults import GRPO_DEFAULTS
from xmlgrpo_trainer.config.yaml_text import MAX_YAML_BYTES, parse_yaml, write_yaml

TINY = "tiny"
MOST_ROWS = 1_000_000  # that are made on the spot, or held out; they are all kept in memory
LARGEST_NUMBER = 2**63 - 1  # that a tensor or a file of a library can hold
LARGEST_FLOAT = 3.4e38  # of 32 bits

# what the doctor can find in a run (`doctor.run` has the limits and the words)
ROWS = (
    *("reward-dead", "reward-unpaid", "reward-gamed", "right-falling", "only-form"),
    *("groups-solved", "groups-silent", "groups-alike", "batches-lost", "one-answer"),
    *("same-wrong", "loops", "false-sums", "working-lost", "replies-cut", "length-changed"),
    *("entropy-gone", "entropy-rising", "entropy-halved", "kl-far", "only-sharper"),
    *("validations-few", "validation-fallen", "validation-falling", "validation-worse"),
    *("by-heart", "gradient-lost", "gradient-gone", "gradient-large", "gradient-spike"),
)


class Section(BaseModel):
    """A part of the configuration: unknown keys refused, types not coerced, values fixed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ModelConfig(Section):
    """Which model is tuned, and how it is loaded."""

    name: str = TINY
    """A Hub id, a folder, or `tiny`: a small Gemma 3 that is built on the spot."""
    revision: str | None = None
    """The Hub commit; pin it, so that the run can be repeated."""
    backend: Literal["auto", "plain", "unsloth"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 on a GPU that has it, else float32.  Gemma 3 overflows in float16."""
    load_in_4bit: bool = False
    float16_products: bool = False
    """For GPUs without bfloat16: float32 but for the factors of products; not measured on a T4."""
    attn_implementation: str | None = None
    tiny: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _agree(self) -> "ModelConfig":
        if self.revision is not None and self.name == TINY:
            raise ValueError("model.revision is read only of a model on the Hub, not of 'tiny'")
        if (self.attn_implementation or "").startswith("paged|"):
            raise ValueError(
                f"model.attn_implementation {self.attn_implementation!r} serves transformers' "
                "continuous batching and cannot be trained with; leave it out"
            )
        if self.float16_products and (self.load_in_4bit or self.backend == "unsloth"):
            raise ValueError(
                "model.float16_products is for 16-bit weights of the plain backend; set "
                "model.load_in_4bit to false and model.backend to 'plain'"
            )
        if self.backend == "unsloth" and self.device == "cpu":
            raise ValueError("model.backend 'unsloth' needs a GPU, but model.device is 'cpu'")
        if self.load_in_4bit and self.device == "cpu":
            raise ValueError("model.load_in_4bit needs a CUDA GPU, but model.device is 'cpu'")
        return self


class DataConfig(Section):
    """Where the problems come from.  Held-out rows are cut from these, never from a test split."""

    source: Literal["generated", "hub", "json"] = "generated"
    path: str | None = None
    """For `json`: a file of rows (JSON lines, CSV, TSV or Parquet, the text forms also packed by
    gzip, bzip2 or xz), or a folder with a training split, such as one downloaded from the Hub."""
    revision: str | None = None
    """For `hub`: the dataset commit; null takes the one the task pins."""
    limit: int | None = Field(default=None, ge=1)
    """At most this many training problems."""
    generated_rows: int = Field(default=8000, ge=1, le=MOST_ROWS)
    """For `generated`: how many training problems to make."""
    level: str | None = None
    """For `generated`: how hard they are, a level of the task; null is the task's usual one."""
    seed: int | None = Field(default=None, ge=0, le=LARGEST_SEED)
    """Of the problems, of their cut and of a tiny base; null is the run's seed.  Runs with several
    seeds can be compared if they share it."""
    max_prompt_tokens: int = Field(default=512, ge=1)
    """Longer prompts are left out and counted, never cut."""

    @model_validator(mode="after")
    def _agree(self) -> "DataConfig":
        if self.source == "json" and self.path is None:
            raise ValueError("data.source is 'json', so data.path must name a file or folder")
        for key, source in (("path", "json"), ("revision", "hub")):
            if self.source != source and getattr(self, key) is not None:
                raise ValueError(
                    f"data.{key} is read only with data.source {source!r}, got source "
                    f"{self.source!r}"
                )
        return self


class HoldoutConfig(Section):
    """Held-out problems.

    `report_rows` are asked before and after training and choose nothing; `validation_rows` are
    others, asked during training, and choose the checkpoint that is kept.
    """

    path: str | None = None
    """A file or folder, as `data.path`, of problems to hold out; null cuts them from the training
    data.  For data that the model has been tuned on before, or that has the same problems in other
    words."""
    report_rows: int = Field(default=400, ge=1, le=MOST_ROWS)
    validation_rows: int = Field(default=200, ge=0, le=MOST_ROWS)
    every: int = Field(default=20, ge=1)
    """Steps between two validations."""
    keep: Literal["best", "last"] = "best"
    """Which adapter is the run's: the best at a validation, or the last one, which no right answer
    has chosen, as a control needs it."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many validations without a new best; null never stops."""
    stop_below: float | None = Field(default=None, gt=0, lt=1)
    """Stop when two validations in a row are below this share of the untrained model's."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """null takes `grpo.max_completion_length`."""
    batch_size: int = Field(default=64, ge=1)

    @model_validator(mode="after")
    def _keeps_what_it_stops_at(self) -> "HoldoutConfig":
        if self.keep == "last" and (self.patience or self.stop_below):
            raise ValueError(
                "patience and stop_below end a run at its best adapter, but keep is 'last'"
            )
        if not self.validation_rows and (self.patience or self.stop_below):
            raise ValueError(
                "patience and stop_below end a run by its validations, but validation_rows is 0"
            )
        return self


class SamplingConfig(Section):
    """Which of the training problems are asked, and which of their groups are learnt from.

    Without a band and with `draw` 1 the problems take turns, as trl has them.
    """

    band: list[float] | None = Field(default=None, min_length=2, max_length=2)
    """The shares of right replies, from and to, between which a problem is asked."""
    rates: str | None = None
    """The file of `make passrate`; null takes every problem for one in the band at first."""
    explore: float = Field(default=0.1, ge=0, le=1)
    """The share of the problems asked from outside of the band, in case that has changed."""
    half_life: float | None = Field(default=None, gt=0)
    """Steps in which half is forgotten of a problem that was solved less than at first."""
    draw: float = Field(default=1.0, ge=1, le=16)
    """So many groups are drawn for each that is learnt from; those without signal are left out."""

    @property
    def is_used(self) -> bool:
        """Whether problems are drawn in another way than trl's."""
        return self.band is not None or self.draw > 1

    @model_validator(mode="after")
    def _agree(self) -> "SamplingConfig":
        if self.band and not 0 <= self.band[0] < self.band[1] <= 1:
            raise ValueError(
                f"sampling.band: expected two shares, the lower one first, got {self.band}"
            )
        for key in ("rates", "half_life"):
            if getattr(self, key) is not None and not self.is_used:
                raise ValueError(f"sampling.{key} is read only with sampling.band or sampling.draw")
        if self.explore != type(self).model_fields["explore"].default and self.band is None:
            raise ValueError("sampling.explore is read only with sampling.band")
        return self


class WatchConfig(Section):
    """What is shown and kept while training."""

    wandb: Literal["off", "offline", "online"] = "off"
    wandb_project: str = Field(default="xmlgrpo", min_length=1)
    trackers: list[Literal["trackio", "tensorboard"]] = []
    """Others that are logged to, all at once."""
    samples_every: int = Field(default=10, ge=1)
    """Steps between two sample replies on the screen."""
    samples_kept: int = Field(default=8, ge=0)
    """Completions a step written to `completions/`."""
    stop_when: list[str] = []
    """Stop when the doctor finds one of these `ROWS`, at its worst, and keep the best adapter."""
    stop_on_lost_batches: bool = True
    """Stop when what draws the completions and what learns from them disagree again and again."""

    @model_validator(mode="after")
    def _knows_its_rows(self) -> "WatchConfig":
        for row in self.stop_when:
            if row not in ROWS:
                raise ValueError(
                    f"watch.stop_when: the doctor has no row {row!r}{did_you_mean(row, ROWS)}; it "
                    f"has {', '.join(sorted(ROWS))}"
                )
        return self


class RunConfig(Section):
    """Everything that decides a run."""

    task: str = "gsm8k"
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    holdout: HoldoutConfig = HoldoutConfig()
    sampling: SamplingConfig = SamplingConfig()
    rewards: dict[str, float] = Field(
        default_factory=lambda: dict.fromkeys(reversed(CLASSIC_REWARDS), 1.0)
    )
    """Name (the task's own, too, or `package.module:function`) -> weight."""
    rollout: Literal["auto", "generate", "graph", "vllm"] = "auto"
    rollout_weights: Literal["int8"] | None = None
    """null: completions are drawn with weights in the model's number type; int8: in 8 bits."""
    packed_rows: bool = False
    """Training computes each prompt once per group and no padding."""
    merged_pass: bool = False
    """Packed rows are computed with the engine's merged weights; not measured on a GPU yet."""
    frozen_norms: bool = False
    """On a GPU: norms make no gradient of their weights; in a training step not measured yet."""
    fetch_once: bool = False
    """Numbers for the log leave the GPU once a step; the time that it saves is not measured yet."""
    lora: dict[str, Any] = Field(default_factory=dict)
    grpo: dict[str, Any] = Field(default_factory=dict)
    watch: WatchConfig = WatchConfig()

    @property
    def problem_seed(self) -> int:
        """The seed that problems are made and cut by, and a tiny base is built by."""
        return self.seed if self.data.seed is None else self.data.seed

    @model_validator(mode="after")
    def _agree(self) -> "RunConfig":
        wrong = []
        if self.data.source == "generated" and self.holdout.path is not None:
            wrong.append(
                "holdout.path is read with data.source 'hub' or 'json'; generated problems hold "
                "out their own"
            )
        if not self.rewards:
            wrong.append("rewards is empty: name at least one reward function and its weight")
        if self.rollout == "vllm" and self.model.device == "cpu":
            wrong.append("rollout 'vllm' needs a GPU, but model.device is 'cpu'")
        if self.rollout_weights and self.rollout not in {"auto", "graph"}:
            wrong.append(
                f"rollout_weights {self.rollout_weights!r} needs rollout 'graph' (or 'auto'), got "
                f"{self.rollout!r}: the other engines have no weights of their own"
            )
        if self.model.float16_products and not (self.packed_rows and self.rollout == "generate"):
            wrong.append(
                "model.float16_products needs packed_rows: true, whose head takes float16 factors, "
                "and rollout: generate, since the other engines read float16 weights as they are"
            )
        if self.merged_pass:
            wrong += self._lacking_for_merged_pass()
        ours = ("packed_rows", "merged_pass", "frozen_norms", "fetch_once")
        if self.model.backend != "plain" and (taken := [n for n in ours if vars(self)[n]]):
            off = " ".join(f"{name}=false" for name in taken)
            wrong.append(
                f"{', '.join(taken)} needs model.backend=plain, since Unsloth has its own step; "
                f"set that, or {off}"
            )
        if wrong:
            raise ValueError("; and ".join(wrong))
        return self

    def _lacking_for_merged_pass(self) -> list[str]:
        dropout, bias = self.lora.get("lora_dropout"), self.lora.get("bias", "none")
        needs = {
            "packed_rows: true: it computes packed rows": self.packed_rows,
            f"rollout 'graph' (or 'auto'), got {self.rollout!r}: it computes with that engine's "
            "weights": self.rollout in {"auto", "graph"},
            f"lora.lora_dropout: 0, got {dropout!r}: merged weights have none": not dropout,
            f"lora.bias: none, got {bias!r}: it trains adapters alone": bias == "none",
        }
        return [f"merged_pass needs {need}" for need, holds in needs.items() if not holds]


def grpo_fields(config: RunConfig) -> dict[str, Any]:
    """The `grpo:` section over our defaults; what is in neither is trl's default."""
    # a limit that is null is none that was set: trl would draw completions without end
    return {**GRPO_DEFAULTS, **config.grpo, "max_completion_length": completion_limit(config)}


def completion_limit(config: RunConfig) -> int:
    """The longest completion in tokens."""
    limit = config.grpo.get("max_completion_length")
    return int(limit or GRPO_DEFAULTS["max_completion_length"])


def holdout_limit(config: RunConfig) -> int:
    """The longest reply to a held-out problem, here and in every later evaluation of the run."""
    return config.holdout.max_new_tokens or completion_limit(config)


def reply_limit(config: RunConfig) -> int:
    """The longest reply in tokens, in training or to a held-out problem."""
    return max(completion_limit(config), config.holdout.max_new_tokens or 0)


def check_context(config: RunConfig, context: int | None) -> None:
    """Check that the longest prompt and reply fit into the model's context, in tokens, if known.

    Raises:
        UserError: they do not.
    """
    prompt, reply = config.data.max_prompt_tokens, reply_limit(config)
    if context is not None and prompt + reply > context:
        raise UserError(
            f"a prompt of {prompt} tokens (data.max_prompt_tokens) and a reply of {reply} (the "
            "longer of grpo.max_completion_length and holdout.max_new_tokens) do not fit into the "
            f"model's context of {context}; lower one of them"
        )


def load_config(path: Path, overrides: list[str] | None = None) -> RunConfig:
    """Read a configuration file and apply `key.sub=value` overrides in order.

    Raises:
        UserError: file missing, not YAML, unknown key, wrong type, impossible combination.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_YAML_BYTES + 1).decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(
            f"cannot read the configuration {str(path)!r}: it is not UTF-8; save it as UTF-8"
        ) from None
    except OSError as error:
        there = sorted(path.parent.glob("*.yaml")) or sorted(Path("configs").glob("*.yaml"))
        beside = ", ".join(map(str, there))
        hint = f"; there are {beside}" if beside else ""
        raise UserError(
            f"cannot read the configuration {str(path)!r}: {error.strerror}{hint}"
        ) from None
    try:
        raw = parse_yaml(text, str(path))
    except RecursionError:
        raise UserError(f"{path}: nested too deeply to be a configuration") from None
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected keys and values, got {type(raw).__name__}")
    for override in overrides or []:
        apply_override(raw, override)
    return check_config(raw, f"{path} and the overrides" if overrides else str(path))


def check_config(raw: dict[str, Any], where: str) -> RunConfig:
    """Check a parsed configuration; `where` names its source in the error.

    The pass-through sections are checked after it, by `early_check.check_early`.
    """
    try:
        config = RunConfig.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{where}: {'; '.join(map(_explained, error.errors()))}") from None
    if odd := _impossible_numbers(raw):
        raise UserError(f"{where}: {'; '.join(odd)}")
    return config


def to_yaml(config: RunConfig) -> str:
    """The resolved configuration as YAML that `load_config` reads, every default written out."""
    return write_yaml(config.model_dump())


def config_sha256(config: RunConfig) -> str:
    """The hash of a resolved configuration: the same for equal ones alone."""
    canonical = json.dumps(config.model_dump(), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def nearest(name: str, known: list[str]) -> str:
    """A hint in words: the nearest known name, or all of them when none is near."""
    listed = f"; known: {', '.join(sorted(known))}" if known else ""
    return did_you_mean(name, known) or listed


def _impossible_numbers(value: Any, key: str = "") -> list[str]:
    """What is wrong with numbers that no setting can have, wherever they stand."""
    if isinstance(value, dict):
        parts = [(f"{key}.{name}" if key else str(name), inner) for name, inner in value.items()]
    elif isinstance(value, list):
        parts = [(f"{key}[{place}]", inner) for place, inner in enumerate(value)]
    else:
        if isinstance(value, float) and not math.isfinite(value):
            return [f"{key}: expected a finite number, got {value}"]
        largest = LARGEST_NUMBER if isinstance(value, int) else LARGEST_FLOAT
        if isinstance(value, int | float) and abs(value) > largest:
            return [f"{key}: expected a number of at most {largest}, got {value}"]
        return []
    return [problem for name, inner in parts for problem in _impossible_numbers(inner, name)]


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Set a key of a parsed configuration as `key.sub=value` says.

    Raises:
        UserError: it is no such text, or the value is not YAML.
    """
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"expected an override like grpo.learning_rate=1e-5, got {override!r}")
    *parents, last = key.strip().split(".")
    place = raw
    for depth, parent in enumerate(parents):
        inner = place.setdefault(parent, {})
        if not isinstance(inner, dict):
            name = ".".join(parents[: depth + 1])
            raise UserError(f"override {override!r}: {name} is {inner!r}, not a section")
        place = inner
    place[last] = parse_yaml(text, f"override {override!r}")


def _explained(problem: Any) -> str:
    """One of pydantic's errors in our words."""
    place = [str(part) for part in problem["loc"]]
    key = ".".join(place)
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}{nearest(place[-1], _keys_at(place[:-1]))}"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    return f"{key}: {problem['msg'][0].lower()}{problem['msg'][1:]}, got {problem['input']!r}"


def _keys_at(place: list[str]) -> list[str]:
    section: type[BaseModel] = RunConfig
    for part in place:
        field = section.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type):
            return []
        section = field.annotation
    return list(section.model_fields)
