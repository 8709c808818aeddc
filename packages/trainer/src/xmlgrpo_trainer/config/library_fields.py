"""Check a pass-through section of the configuration against the library's own dataclass.

`grpo:`, `lora:` and `model.tiny:` are handed on as they are.  The library's fields and their
annotated types are the schema, so a new release's options work here without a change of ours.
They are first read from what is recorded of the pinned release (`recorded_fields.py`), so that a
typo is refused before the libraries are imported, and then from the libraries.
"""

import dataclasses
import json
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from xmlgrpo_rewards.errors import UserError, did_you_mean
from xmlgrpo_run.files import check_patterns
from xmlgrpo_trainer.config.defaults import LORA_DEFAULTS
from xmlgrpo_trainer.config.recorded_fields import library_schema
from xmlgrpo_trainer.config.run_config import nearest

if TYPE_CHECKING:
    from xmlgrpo_trainer.tiny.settings import TinySettings


def _all(names: str, value: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), value)


# What a run decides elsewhere.  Two places for one setting would have to agree.
RESERVED_GRPO: dict[str, str] = {
    **_all("output_dir run_name", "the run folder decides it (--run)"),
    **_all("seed data_seed", "set the top-level seed"),
    "reward_weights": "set the weights under rewards:",
    "report_to": "set watch.wandb or watch.trackers",
    "use_vllm": "set rollout: vllm",
    "use_cpu": "set model.device",
    "bf16": "set model.dtype",
    "fp16": "Gemma 3 overflows in float16; set model.dtype",
    "model_init_kwargs": "set the keys of model:",
    "trust_remote_code": "code from the Hub is never run here",
    "resume_from_checkpoint": "run the same command again: it continues by itself",
    "hub_token": "tokens come from HF_TOKEN or the Hub login only",
    "load_best_model_at_end": "holdout: keeps the best checkpoint",
    "local_rank": "--gpus N starts the processes",
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
    "max_tool_calling_iterations": "no tools are called here",
    "do_train": "make train trains",
    "ddp_backend": "--gpus N starts the processes, and chooses it",
    "ds3_gather_for_generation": "DeepSpeed is not used: every GPU holds the whole model",
    # names that trl takes, and that would change nothing here, or too late
    **_all(
        "do_eval do_predict eval_strategy eval_steps eval_delay eval_on_start "
        "eval_accumulation_steps eval_do_concat_batches eval_use_gather_object "
        "per_device_eval_batch_size num_generations_eval batch_eval_metrics prediction_loss_only "
        "include_for_metrics bf16_full_eval fp16_full_eval",
        "held-out accuracy is measured by holdout:",
    ),
    **_all("metric_for_best_model greater_is_better", "holdout: keeps the best checkpoint"),
    **_all(
        "push_to_hub hub_model_id hub_strategy hub_private_repo hub_always_push hub_revision "
        "log_completions_hub_repo",
        "make push publishes, with a card and checks",
    ),
    **_all(
        "log_completions log_multimodal log_unique_prompts num_completions_to_print",
        "watch: decides which completions are shown and kept",
    ),
    "project": "set watch.wandb_project",
    **_all(
        "trackio_space_id trackio_bucket_id trackio_static_space_id",
        "a run is sent nowhere while it trains; see docs/configuration.md, watch",
    ),
    **_all(
        "fsdp fsdp_config deepspeed parallelism_config",
        "every GPU holds the whole model; run with --gpus N",
    ),
    "cast_lm_head_to_fp32": "it parts Gemma 3's head from its embeddings; set model.dtype=float32",
    **_all(
        "ref_model_mixup_alpha ref_model_sync_steps",
        "the reference is the base model under the adapter",
    ),
    **_all(
        "use_transformers_continuous_batching use_transformers_paged "
        "transformers_continuous_batching_config",
        "the rollout engines draw the completions; set rollout",
    ),
    **_all("label_smoothing_factor label_names", "GRPO has rewards, and no labels"),
    **_all("train_sampling_strategy length_column_name", "trl's GRPO has an order of its own"),
    # other words for a field: plan, run and the record of it would have to read both
    "activation_checkpointing": "set gradient_checkpointing, the same under every version here",
    "activation_checkpointing_kwargs": "set gradient_checkpointing_kwargs",
    "vllm_importance_sampling_cap": "set vllm_importance_sampling_clip_max, its newer name",
}
RESERVED_LORA: dict[str, str] = {
    "task_type": "always CAUSAL_LM",
    "base_model_name_or_path": "set model.name",
    "modules_to_save": "full copies of modules do not merge into a tied model; leave it out",
    "trainable_token_indices": "a changed embedding does not merge into a tied model; leave it out",
    "inference_mode": "an adapter in that mode is not trained; leave it out",
    "peft_type": "always LORA",
    "peft_version": "peft writes its own",
    "auto_mapping": "peft writes it",
    "revision": "set model.revision",
    **_all("megatron_config megatron_core", "no Megatron model is trained here"),
    "alora_invocation_tokens": "the rollout would have to switch the adapter on in mid-text",
    "lora_ga_config": "that start needs gradients before training, which are not taken here",
    "layer_replication": "the model would have other layers, and be another one, before training",
    "kasa_config": "its adapter changes the model before the first step",
    "arrow_config": "one adapter is trained here, and none are mixed",
    "runtime_config": "it is an object, which no configuration file can hold",
}


class Rule(NamedTuple):
    """What a value of the right type has to be, and the same in words, after "expected"."""

    holds: Callable[[Any], bool]
    expected: str


def one_of(*names: str) -> Rule:
    """One of these names."""
    words = ", ".join(names)
    return Rule(lambda value: value in names, f"one of {words}" if names[1:] else words)


AT_LEAST_0 = Rule(lambda value: value >= 0, "0 or more")
AT_LEAST_1 = Rule(lambda value: value >= 1, "1 or more")
ABOVE_0 = Rule(lambda value: value > 0, "a number above 0")
SHARE = Rule(lambda value: 0 <= value <= 1, "a number from 0 to 1")
SHARE_BELOW_1 = Rule(lambda value: 0 <= value < 1, "a number from 0 to below 1")
SHARE_ABOVE_0 = Rule(lambda value: 0 < value <= 1, "a number above 0 and at most 1")
UP_TO_100 = Rule(lambda value: 0 <= value <= 100, "0 to 100")
PORT = Rule(lambda value: 1 <= value <= 65_535, "a port, 1 to 65535")

# Values that trl and peft take in silence, or notice in the first step.  What a library refuses by
# itself is not repeated here: the dry run (`model/dry_run.py`) lets it say so.
GRPO_RULES: dict[str, Rule] = {
    "max_steps": Rule(lambda value: value >= 1 or value == -1, "1 or more, or -1 for whole epochs"),
    "num_train_epochs": Rule(
        lambda value: 0 < value <= 1e6, "a number above 0 and at most 1000000"
    ),
    **_all(
        "max_completion_length num_iterations torch_empty_cache_steps save_steps ddp_timeout "
        "ddp_bucket_cap_mb vllm_max_model_length vllm_tensor_parallel_size",
        AT_LEAST_1,
    ),
    **_all(
        "max_grad_norm neftune_noise_alpha epsilon epsilon_high router_aux_loss_coef vespo_k_pos "
        "vespo_k_neg vespo_lambda_pos vespo_lambda_neg entropy_coef_delta entropy_target "
        "vllm_importance_sampling_clip_min",
        AT_LEAST_0,
    ),
    **_all(
        "logging_steps delta sapo_temperature_neg sapo_temperature_pos off_policy_mask_threshold "
        "vllm_server_timeout vllm_importance_sampling_clip_max",
        ABOVE_0,
    ),
    # the optimiser says so of the last one in part; `xmlgrpo-plan` makes none
    **_all("weight_decay beta learning_rate", UP_TO_100),
    # a group of equal completions has no advantage of one over another, and teaches nothing
    "temperature": Rule(lambda value: value > 0, "above 0, or a group's completions are all equal"),
    "top_p": SHARE_ABOVE_0,
    "top_k": Rule(
        lambda value: value == 0 or value > 1,
        "0 (all tokens), or 2 or more: with 1 a group's completions are all equal",
    ),
    "min_p": Rule(
        lambda value: 0 <= value < 1, "0 to below 1, or a group's completions are all equal"
    ),
    # the libraries say so of the next four, too late for `xmlgrpo-plan`
    **_all("adam_beta1 adam_beta2", SHARE_BELOW_1),
    **_all("adam_epsilon warmup_steps", AT_LEAST_0),
    "top_entropy_quantile": SHARE,
    "pad_to_multiple_of": Rule(lambda value: value == "auto" or 1 <= value <= 4096, "1 to 4096"),
    "dataloader_num_workers": Rule(lambda value: 0 <= value <= 128, "0 to 128"),
    "save_total_limit": Rule(
        lambda value: value >= 2,
        "2 or more: while one checkpoint is written, another must be there to go on from",
    ),
    "save_strategy": Rule(lambda value: value != "best", "steps or epoch; holdout: keeps the best"),
    "lr_scheduler_kwargs": Rule(
        lambda value: not isinstance(value, str) or value.startswith("{"), "keys and values"
    ),
    "gradient_checkpointing_kwargs": Rule(
        lambda value: not {"every_n_layers", "offload"} & set(value),
        "no every_n_layers and no offload: neither plan nor training step counts with them",
    ),
    **_all("vllm_server_port vllm_group_port", PORT),
    "vllm_model_impl": one_of("auto", "vllm", "transformers"),
    "vllm_gpu_memory_utilization": SHARE_ABOVE_0,
    # texts to trl's dataclass; the trainer compares them only when it computes a loss
    "loss_type": one_of("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"),
    "importance_sampling_level": one_of("token", "sequence"),
    "scale_rewards": one_of("group", "batch", "none"),
    "multi_objective_aggregation": one_of("sum_then_normalize", "normalize_then_sum"),
    "vllm_importance_sampling_mode": one_of(
        "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"
    ),
    "vllm_mode": one_of("server", "colocate"),
    "include_num_input_tokens_seen": Rule(
        lambda value: value in {True, False, "all", "non_padding", "no"},
        "true, false, all, non_padding or no",
    ),
}
LORA_RULES = {
    "target_modules": Rule(bool, "names of modules, or a pattern of them"),
    "r": AT_LEAST_1,  # peft would say so too; `xmlgrpo-plan` counts with it and has no peft
    "lora_alpha": Rule(lambda value: 0 < value <= 1e6, "a number above 0 and at most 1000000"),
    "qalora_group_size": AT_LEAST_1,
    "lora_dropout": SHARE_BELOW_1,
    "alpha_pattern": Rule(
        lambda alphas: all(not isinstance(a, int | float) or a > 0 for a in alphas.values()),
        "numbers above 0: an adapter times 0 learns nothing",
    ),
    "init_lora_weights": Rule(
        lambda start: start != "eva", "a start that needs no pass over the data before training"
    ),
}

_IS_ON = Rule(lambda value: value is True, "true")
_CLIPPED = one_of("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
# A setting -> another one, and what that has to be.  Otherwise the library takes the first in
# silence, and never reads it.
READ_WITH: dict[str, dict[str, tuple[str, Rule]]] = {
    "grpo": {
        **_all(
            "vllm_mode vllm_model_impl vllm_enable_sleep_mode vllm_structured_outputs_regex "
            "vllm_gpu_memory_utilization vllm_max_model_length vllm_tensor_parallel_size",
            ("rollout", one_of("vllm")),
        ),
        **_all(
            "vllm_server_base_url vllm_server_host vllm_server_port vllm_server_timeout "
            "vllm_group_port",
            ("grpo.vllm_mode", one_of("server")),
        ),
        **_all(
            "vllm_importance_sampling_mode vllm_importance_sampling_clip_max "
            "vllm_importance_sampling_clip_min",
            ("grpo.vllm_importance_sampling_correction", _IS_ON),
        ),
        **_all("sapo_temperature_neg sapo_temperature_pos", ("grpo.loss_type", one_of("sapo"))),
        **_all(
            "vespo_k_pos vespo_k_neg vespo_lambda_pos vespo_lambda_neg",
            ("grpo.loss_type", one_of("vespo")),
        ),
        **_all("epsilon delta", ("grpo.loss_type", _CLIPPED)),
        **_all(
            "entropy_coef_min entropy_coef_max entropy_coef_delta entropy_target",
            ("grpo.use_adaptive_entropy", _IS_ON),
        ),
        "optim_target_modules": (
            "grpo.optim",
            Rule(lambda name: name.startswith(("galore", "apollo")), "one of GaLore's or APOLLO's"),
        ),
        "lr_scheduler_kwargs": (
            "grpo.lr_scheduler_type",
            Rule(lambda name: not name.startswith("constant"), "not constant"),
        ),
        "gradient_checkpointing_kwargs": ("grpo.gradient_checkpointing", _IS_ON),
        "liger_kernel_config": ("grpo.use_liger_kernel", _IS_ON),
        "use_bias_correction_kl": ("grpo.beta", ABOVE_0),
        # its noise goes by the length of a text, and a packed row is all of them
        "neftune_noise_alpha": ("packed_rows", Rule(lambda value: value is False, "false")),
    },
    "lora": {"qalora_group_size": ("lora.use_qalora", _IS_ON)},
}

# Fields whose types and rules say all that a library would say of them; of some only these values.
# Which one is here costs a plan no import of the libraries.
SETTLED_GRPO = _all(
    "max_steps num_train_epochs learning_rate warmup_steps weight_decay max_grad_norm adam_beta1 "
    "adam_beta2 per_device_train_batch_size gradient_accumulation_steps num_generations beta "
    "max_completion_length temperature top_p loss_type scale_rewards gradient_checkpointing "
    "mask_truncated_completions save_steps save_total_limit logging_first_step",
    None,
) | {
    "optim": ("adamw_torch", "adamw_torch_fused"),
    "lr_scheduler_type": ("constant", "constant_with_warmup", "linear", "cosine"),
}
SETTLED_ATTENTION = (None, "sdpa", "eager")

SHORT_LIST = 9  # names that an error can list
TIED_MODULES = ("embed_tokens", "lm_head")


def check_grpo(values: Mapping[str, Any], schema: type | None = None) -> None:
    """Check `grpo:`.

    Args:
        values: what the user wrote.
        schema: `trl.GRPOConfig`; left out, what is recorded of it, which needs no import.

    Raises:
        UserError: a name that is no field, a field that is set elsewhere, or a wrong value.
    """
    _check_fields("grpo", values, schema or library_schema("GRPOConfig"), RESERVED_GRPO, GRPO_RULES)


def check_lora(values: Mapping[str, Any], schema: type | None = None) -> None:
    """Check `lora:` as `check_grpo` does, with `peft.LoraConfig` as the schema.

    Raises:
        UserError: also for LoRA on the embeddings or the output head, which Gemma 3 ties to one
            another, so that merging or converting would lose them.
    """
    _check_fields("lora", values, schema or library_schema("LoraConfig"), RESERVED_LORA, LORA_RULES)
    check_patterns(values, "lora")
    targets = values.get("target_modules") or []
    named = [targets] if isinstance(targets, str) else list(targets)
    for target in named:
        if target.endswith(TIED_MODULES) or (isinstance(targets, str) and _matches_tied(target)):
            raise UserError(
                f"lora.target_modules: {target!r} is one of Gemma 3's tied weights "
                f"({', '.join(TIED_MODULES)}); merging or converting to GGUF would lose the "
                "change. Leave it out."
            )


def is_settled(
    grpo: Mapping[str, Any],
    lora: Mapping[str, Any],
    attention: str | None,
    modules: Mapping[str, int],
) -> bool:
    """Whether no library has to be asked about a configuration that the checks here have passed.

    Args:
        grpo: the section as it was written.
        lora: likewise.
        attention: `model.attn_implementation`.
        modules: the model's linear modules, and the largest rank of an adapter on each.
    """
    targets = lora.get("target_modules", "all-linear")
    named = list(modules) if targets == "all-linear" else targets
    return (
        attention in SETTLED_ATTENTION
        and all(
            name in SETTLED_GRPO and (SETTLED_GRPO[name] is None or value in SETTLED_GRPO[name])
            for name, value in grpo.items()
        )
        and type(grpo.get("save_steps", 1)) is int  # what trl says of 2.5 is its own
        and lora.keys() <= {"r", "lora_alpha", "lora_dropout", "target_modules"}
        and isinstance(named, list)
        and all(
            name in modules and {**LORA_DEFAULTS, **lora}["r"] <= modules[name] for name in named
        )
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

    _check_fields("model.tiny", values, TinySettings, {}, {})
    settings = TinySettings(**values)
    if settings.hidden_size % settings.heads:  # transformers asks for it
        raise UserError(
            f"tiny.heads: expected a divisor of hidden_size={settings.hidden_size}, got "
            f"{settings.heads}"
        )
    return settings


def _check_fields(
    section: str,
    values: Mapping[str, Any],
    schema: type,
    reserved: Mapping[str, str],
    rules: Mapping[str, Rule],
) -> None:
    """Check names and types against the dataclass `schema`, and values against `rules`.

    Args:
        reserved: fields that may not be set here -> what to do instead.

    Raises:
        UserError: every problem, in one message.
    """
    fields = {field.name for field in dataclasses.fields(schema) if field.init}
    hints = typing.get_type_hints(schema)
    problems = []
    for name, value in values.items():
        if name in reserved:
            problems.append(f"{section}.{name} cannot be set here: {reserved[name]}")
        elif name not in fields:
            free = sorted(fields - reserved.keys())
            is_short = len(fields) < 20  # else too many to list
            hint = nearest(str(name), free) if is_short else did_you_mean(str(name), free)
            problems.append(f"{section}.{name} is not a field of {schema.__name__}{hint}")
        else:
            problem = _type_problem(hints.get(name, Any), value)
            rule = rules.get(name)
            if not problem and rule and value is not None and not _holds(rule, value):
                problem = f"expected {rule.expected}, got {value!r}"
            if problem:
                problems.append(f"{section}.{name}: {problem}")
    if problems:
        raise UserError("; ".join(problems))


def _holds(rule: Rule, value: Any) -> bool:
    """Whether a value keeps a rule; one that cannot be compared, text with a number, does not."""
    try:
        return rule.holds(value)
    except TypeError:
        return False


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


def _numbered(value: str) -> Callable[[str], bool]:
    """Whether a value is one of the names that hold a number: `pissa_niter_[number of iters]`."""
    with_number, found = re.subn(r"\d+$", "[", value)
    return lambda name: bool(found) and name.startswith(with_number)


def _explained(errors: Sequence[Any], value: object) -> str | None:
    """Why a value is of no type that a field takes; of many names, only those that are near."""
    [first, *_] = errors
    choices = [error for error in errors if error["type"] in {"literal_error", "enum"}]
    if isinstance(value, str) and choices:
        [first, *_] = choices
        names = re.findall("'([^']*)'", first["ctx"]["expected"])
        if any(map(_numbered(value), names)):
            return None
        if len(names) > SHORT_LIST:
            return f"expected one of {len(names)} names, got {value!r}{nearest(value, names)}"
    message: str = first["msg"]
    return f"{message[0].lower()}{message[1:]}, got {value!r}"
