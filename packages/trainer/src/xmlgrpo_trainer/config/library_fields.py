"""Check a pass-through section of the configuration against the library's own dataclass.

`grpo:`, `lora:` and `model.tiny:` are handed on as they are.  The library's fields and their
annotated types are the schema, so a new release's options work here without a change of ours.
They are first read from what is recorded of the pinned release (`recorded_fields.py`), so that a
typo is told before the libraries are imported, and then from the libraries.
"""

import dataclasses
import json
import re
import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config.nearest import nearest
from xmlgrpo_trainer.config.recorded_fields import library_schema
from xmlgrpo_trainer.config.value_rules import GRPO_RULES, LORA_RULES, Rule

if TYPE_CHECKING:
    from xmlgrpo_trainer.tiny.settings import TinySettings

# What a run decides elsewhere.  Two places for one setting would have to agree.
RESERVED_GRPO = {
    "output_dir": "the run folder decides it (--run)",
    "seed": "set the top-level seed",
    "data_seed": "set the top-level seed",
    "reward_weights": "set the weights under rewards:",
    "report_to": "set watch.wandb",
    "run_name": "the run folder decides it (--run)",
    "use_vllm": "set rollout: vllm",
    "use_cpu": "set model.device",
    "bf16": "set model.dtype",
    "fp16": "Gemma 3 overflows in float16; set model.dtype",
    "model_init_kwargs": "set the keys of model:",
    "trust_remote_code": "code from the Hub is never run here",
    "resume_from_checkpoint": "run the same command again: it continues by itself",
    "push_to_hub": "make push publishes, with a card and checks",
    "hub_token": "tokens come from HF_TOKEN or the Hub login only",
    "do_eval": "held-out accuracy is measured by holdout:",
    "eval_strategy": "held-out accuracy is measured by holdout:",
    "load_best_model_at_end": "holdout: keeps the best checkpoint",
    "max_prompt_length": "trl has no such field; set data.max_prompt_tokens",
    "disable_tqdm": "the bar is ours",
    "save_only_model": "a checkpoint without its optimiser cannot be continued",
    "ignore_data_skip": "a continued run must see the problems it has not seen",
    # the rollout engines know temperature, top_p, top_k and min_p, and no more
    "repetition_penalty": "the rollout engines have no such setting",
    "generation_kwargs": "the rollout engines have temperature, top_p, top_k and min_p only",
    "cache_implementation": "the rollout engines have a cache of their own",
    "remove_unused_columns": "the reward functions read columns that trl does not use",
    "sync_ref_model": "the reference is the base model under the adapter; it has no other weights",
    "chat_template_kwargs": "held-out questions and training must share one prompt",
}
RESERVED_LORA = {
    "task_type": "always CAUSAL_LM",
    "base_model_name_or_path": "set model.name",
    "modules_to_save": "full copies of modules do not merge into a tied model; leave it out",
    "trainable_token_indices": "a changed embedding does not merge into a tied model; leave it out",
    "inference_mode": "an adapter in that mode is not trained; leave it out",
    "peft_type": "always LORA",
}
SHORT_LIST = 9  # names that an error can list
TIED_MODULES = ("embed_tokens", "lm_head")


def check_grpo(values: Mapping[str, Any], schema: type | None = None) -> None:
    """Check `grpo:`.

    Args:
        values: what the user wrote.
        schema: `trl.GRPOConfig`; left out, what is recorded of it, which needs no import.

    Raises:
        UserError: a name that is no field, a field that is set elsewhere, or a wrong type.
    """
    check_fields("grpo", values, schema or library_schema("GRPOConfig"), RESERVED_GRPO, GRPO_RULES)


def check_lora(values: Mapping[str, Any], schema: type | None = None) -> None:
    """Check `lora:`.

    Args:
        values: what the user wrote.
        schema: `peft.LoraConfig`; left out, what is recorded of it.

    Raises:
        UserError: as for `check_grpo`; also LoRA on the embeddings or the output head, which
            Gemma 3 ties to one another, so that merging or converting would lose them.
    """
    check_fields("lora", values, schema or library_schema("LoraConfig"), RESERVED_LORA, LORA_RULES)
    targets = values.get("target_modules") or []
    named = [targets] if isinstance(targets, str) else list(targets)
    for target in named:
        if any(target.endswith(module) for module in TIED_MODULES) or (
            isinstance(targets, str) and _matches_tied(target)
        ):
            raise UserError(
                f"lora.target_modules: {target!r} is one of Gemma 3's tied weights "
                f"({', '.join(TIED_MODULES)}); merging or converting to GGUF would lose the "
                "change. Leave it out."
            )


def _matches_tied(pattern: str) -> bool:
    """Whether peft, which takes a text for a pattern of whole module names, would adapt them."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"lora.target_modules: {pattern!r} is no regular expression: {error}"
        ) from None
    names = ("lm_head", "model.embed_tokens", "model.language_model.embed_tokens")
    return any(expression.fullmatch(name) for name in names)


def tiny_settings(values: Mapping[str, Any]) -> "TinySettings":
    """Check `model.tiny:` and make the settings of the tiny model.

    Raises:
        UserError: a name that is no field, a wrong type, or a shape that cannot be.
    """
    from xmlgrpo_trainer.tiny.settings import TinySettings

    check_fields("model.tiny", values, TinySettings, {}, {})
    return TinySettings(**values)


def check_groups(grpo: Mapping[str, Any], processes: int = 1) -> None:
    """Check that a generation batch holds whole groups of `num_generations` completions.

    Needs no library, so it runs before anything is imported.

    Raises:
        UserError: a size is no whole number above 0, or the batch is not divisible by the group
            size.
    """
    from_config = {name: grpo.get(name) for name in _BATCH_FIELDS}
    for name, value in from_config.items():
        if value is None and not (name == "num_generations" and name in grpo):
            continue
        if type(value) is not int:
            raise UserError(f"grpo.{name}: expected a whole number, got {value!r}")
        if value < 1:
            raise UserError(f"grpo.{name}: expected 1 or more, got {value}")
    group = from_config["num_generations"] or 8
    per_device = from_config["per_device_train_batch_size"] or 8
    steps = from_config["steps_per_generation"] or from_config["gradient_accumulation_steps"] or 1
    batch = from_config["generation_batch_size"] or per_device * processes * steps
    if group < 2:
        raise UserError(
            f"grpo.num_generations: expected at least 2 completions a prompt, got {group}; the "
            "advantage compares a completion with the others of its group"
        )
    if batch % group:
        raise UserError(
            f"grpo: a generation batch of {batch} completions ({per_device} a device x "
            f"{processes} process(es) x {steps} accumulation steps) is not a multiple of "
            f"num_generations = {group}; set per_device_train_batch_size to a multiple of {group} "
            f"(for example {max(group, per_device // group * group)}) or change num_generations"
        )


_BATCH_FIELDS = (
    "num_generations",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "steps_per_generation",
    "generation_batch_size",
)


def check_fields(
    section: str,
    values: Mapping[str, Any],
    schema: type,
    reserved: Mapping[str, str],
    rules: Mapping[str, Rule],
) -> None:
    """Check names and types of `values` against the dataclass `schema`, and values against `rules`.

    Args:
        section: how the configuration calls these values, for the message.
        values: what the user wrote.
        schema: the library's dataclass.
        reserved: fields that may not be set here -> what to do instead.
        rules: of some fields, for what the type leaves open.

    Raises:
        UserError: every problem found, in one message.
    """
    fields = {field.name for field in dataclasses.fields(schema) if field.init}
    hints = typing.get_type_hints(schema)
    problems = []
    for name, value in values.items():
        if name in reserved:
            problems.append(f"{section}.{name} cannot be set here: {reserved[name]}")
        elif name not in fields:
            known = sorted(fields - reserved.keys())
            hint = nearest(str(name), known) if len(known) < 20 else _near_only(str(name), known)
            problems.append(f"{section}.{name} is not a field of {schema.__name__}{hint}")
        else:
            problem = _type_problem(hints.get(name, Any), value)
            rule = rules.get(name)
            if not problem and rule and value is not None and not rule.holds(value):
                problem = f"expected {rule.expected}, got {value!r}"
            if problem:
                problems.append(f"{section}.{name}: {problem}")
    if problems:
        raise UserError("; ".join(problems))


def _near_only(name: str, known: list[str]) -> str:
    hint = nearest(name, known)
    return hint if "did you mean" in hint else ""


def _type_problem(hint: Any, value: Any) -> str | None:
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # a dataclass or model carries its own config
        adapter = TypeAdapter(hint)
    try:
        # strict, but as JSON: a list may fill a set and text an enum, while "5" is no number
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        return _explained(error.errors(), value)
    except TypeError:
        return f"expected a number, text, true/false, a list or a mapping, got {value!r}"
    return None


def _explained(errors: Sequence[Any], value: object) -> str:
    """Why a value is of no type that a field takes; of many names, only those that are near."""
    [first, *_] = errors
    choices = [error for error in errors if error["type"] in {"literal_error", "enum"}]
    if isinstance(value, str) and choices:
        [first, *_] = choices
        names = re.findall("'([^']*)'", first["ctx"]["expected"])
        if len(names) > SHORT_LIST:
            return f"expected one of {len(names)} names, got {value!r}{nearest(value, names)}"
    message: str = first["msg"]
    return f"{message[0].lower()}{message[1:]}, got {value!r}"
