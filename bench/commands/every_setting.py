"""Is every setting that is accepted trained with?  Runs of two steps on the tiny model.

    python -m bench.commands.every_setting --base outputs/base/tiny-... --to settings.json

A run may end in three ways: refused before anything is built, trained, or late: a refusal or an
error after the model was there.  The last is a fault; so is one that trains an adapter with nothing
in it.
The libraries are imported once; each run is a process forked from there.  Several settings share a
run where they share no key; one that ends badly is tried again in halves.
"""

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported; a model this small needs no more

from safetensors.torch import load_file

import xmlgrpo_trainer.finish
import xmlgrpo_trainer.fit  # noqa: F401
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_trainer.cli import main as train_main
from xmlgrpo_trainer.config.run_config import load_config
from xmlgrpo_trainer.prepare import check_settings, refuse_early
from xmlgrpo_trainer.ranks.processes import ALONE

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    *("grpo.max_steps=2", "grpo.save_steps=1", "grpo.warmup_steps=0", "data.generated_rows=64"),
    *("grpo.per_device_train_batch_size=16", "grpo.num_generations=4"),
    *("grpo.max_completion_length=64", "data.max_prompt_tokens=128"),
    *("holdout.report_rows=8", "holdout.validation_rows=8", "watch.samples_every=1"),
)
LIMIT_S = 240

# Every field of trl's and peft's dataclasses that may be set, with another value than its default.
SETTINGS = """
grpo.per_device_train_batch_size=8 | grpo.max_steps=-1 & grpo.num_train_epochs=0.1
grpo.learning_rate=0 | grpo.learning_rate=1 | grpo.learning_rate=1e-5
grpo.lr_scheduler_type=linear | grpo.lr_scheduler_type=cosine
grpo.lr_scheduler_type=cosine_with_restarts | grpo.lr_scheduler_type=polynomial
grpo.lr_scheduler_type=constant | grpo.lr_scheduler_type=inverse_sqrt
grpo.lr_scheduler_type=cosine_with_min_lr & grpo.lr_scheduler_kwargs={min_lr: 1e-4}
grpo.lr_scheduler_type=cosine_warmup_with_min_lr & grpo.lr_scheduler_kwargs={min_lr: 1e-4}
grpo.lr_scheduler_type=warmup_stable_decay & grpo.lr_scheduler_kwargs={num_decay_steps: 1}
grpo.lr_scheduler_type=greedy | grpo.lr_scheduler_kwargs={} | grpo.warmup_steps=0.5
grpo.warmup_steps=2 | grpo.warmup_steps=1000 | grpo.optim=adamw_torch_fused | grpo.optim=adafactor
grpo.optim=sgd | grpo.optim=adagrad | grpo.optim=rmsprop | grpo.optim=adamw_torch_8bit
grpo.optim=adamw_torch_4bit | grpo.optim=adamw_anyprecision | grpo.optim=schedule_free_adamw
grpo.optim=galore_adamw & grpo.optim_target_modules=all-linear | grpo.optim=grokadamw
grpo.optim=adalomo | grpo.optim=lomo | grpo.optim=stable_adamw | grpo.optim=lion_32bit
grpo.optim=apollo_adamw & grpo.optim_target_modules=all-linear | grpo.optim=adamw_torch_xla
grpo.optim=adafactor & grpo.optim_args='scale_parameter=False'
grpo.optim_target_modules=all-linear | grpo.optim_args='weight_decay=0.1' | grpo.weight_decay=0.1
grpo.adam_beta1=0.5 | grpo.adam_beta2=0.9 | grpo.adam_epsilon=0.1
grpo.gradient_accumulation_steps=2 | grpo.average_tokens_across_devices=false
grpo.max_grad_norm=0 | grpo.max_grad_norm=0.001 | grpo.label_smoothing_factor=0.1
grpo.bf16_full_eval=true | grpo.fp16_full_eval=true | grpo.tf32=true | grpo.tf32=false
grpo.gradient_checkpointing=true
grpo.gradient_checkpointing=true & grpo.gradient_checkpointing_kwargs={use_reentrant: true}
grpo.gradient_checkpointing_kwargs={use_reentrant: false} | grpo.torch_compile=true
grpo.torch_compile=true & grpo.torch_compile_backend=eager | grpo.liger_kernel_config={rope: true}
grpo.use_cache=true | grpo.neftune_noise_alpha=5 | grpo.torch_empty_cache_steps=1
grpo.torch_empty_cache_steps=0 | grpo.logging_strategy='no' | grpo.logging_strategy=epoch
grpo.logging_steps=2 | grpo.logging_steps=0.5 | grpo.logging_steps=1.5
grpo.logging_first_step=true | grpo.log_on_each_node=false | grpo.logging_nan_inf_filter=false
grpo.include_num_input_tokens_seen=true | grpo.include_num_input_tokens_seen=all
grpo.include_num_input_tokens_seen=foo | grpo.log_level=debug | grpo.log_level_replica=error
grpo.project=mine | grpo.trackio_space_id=me/x | grpo.trackio_bucket_id=me/x
grpo.trackio_static_space_id=false | grpo.eval_steps=1 | grpo.eval_delay=1
grpo.per_device_eval_batch_size=3 | grpo.per_device_eval_batch_size=4
grpo.prediction_loss_only=true | grpo.eval_on_start=true | grpo.eval_do_concat_batches=false
grpo.eval_use_gather_object=true | grpo.eval_accumulation_steps=1
grpo.include_for_metrics=[loss] | grpo.batch_eval_metrics=true | grpo.save_strategy='no'
grpo.save_strategy=epoch | grpo.save_steps=0.5 | grpo.save_steps=1000
grpo.save_on_each_node=true | grpo.save_total_limit=null | grpo.enable_jit_checkpoint=true
grpo.hub_private_repo=true | grpo.hub_model_id=me/x | grpo.hub_strategy=end
grpo.hub_always_push=true | grpo.hub_revision=x | grpo.metric_for_best_model=reward
grpo.greater_is_better=true | grpo.restore_callback_states_from_checkpoint=true
grpo.full_determinism=true | grpo.accelerator_config={split_batches: true}
grpo.accelerator_config={even_batches: false}
grpo.accelerator_config={use_seedable_sampler: false}
grpo.accelerator_config={gradient_accumulation_kwargs: {num_steps: 2}}
grpo.accelerator_config={non_blocking: true} | grpo.parallelism_config={dp_replicate_size: 1}
grpo.dataloader_drop_last=true | grpo.dataloader_num_workers=1 | grpo.dataloader_pin_memory=false
grpo.dataloader_persistent_workers=true
grpo.dataloader_num_workers=1 & grpo.dataloader_persistent_workers=true
grpo.dataloader_prefetch_factor=2
grpo.dataloader_num_workers=1 & grpo.dataloader_prefetch_factor=2
grpo.dataloader_multiprocessing_context=spawn | grpo.dataloader_multiprocessing_context=foo
grpo.dataloader_num_workers=1 & grpo.dataloader_multiprocessing_context=spawn
grpo.dataloader_in_order=false | grpo.label_names=[labels]
grpo.train_sampling_strategy=sequential | grpo.train_sampling_strategy=group_by_length
grpo.train_sampling_strategy=foo | grpo.length_column_name=n
grpo.ddp_find_unused_parameters=true | grpo.ddp_bucket_cap_mb=10
grpo.ddp_broadcast_buffers=false | grpo.ddp_static_graph=true | grpo.ddp_backend=gloo
grpo.ddp_backend=foo | grpo.ddp_timeout=60 | grpo.fsdp_config={min_num_params: 1}
grpo.deepspeed={zero_optimization: {stage: 2}} | grpo.debug=underflow_overflow
grpo.skip_memory_metrics=false | grpo.do_train=true | grpo.do_predict=true | grpo.local_rank=0
grpo.router_aux_loss_coef=0.1 | grpo.disable_dropout=true | grpo.cast_lm_head_to_fp32=true
grpo.num_generations=2 | grpo.num_generations_eval=2 | grpo.max_completion_length=null
grpo.ds3_gather_for_generation=false | grpo.shuffle_dataset=false | grpo.shuffle_dataset=null
grpo.pad_to_multiple_of=64 | grpo.generation_batch_size=32 | grpo.steps_per_generation=2
grpo.temperature=0.01 | grpo.temperature=100 | grpo.top_p=0.5 | grpo.top_k=1 | grpo.top_k=5
grpo.min_p=0.1 | grpo.min_p=1 | grpo.vllm_mode=server | grpo.vllm_model_impl=foo
grpo.vllm_enable_sleep_mode=true | grpo.vllm_structured_outputs_regex=a
grpo.vllm_server_base_url=http://127.0.0.1:1 | grpo.vllm_server_port=1
grpo.vllm_server_timeout=1 | grpo.vllm_group_port=1 | grpo.vllm_gpu_memory_utilization=0.5
grpo.vllm_max_model_length=64 | grpo.vllm_tensor_parallel_size=2 | grpo.beta=0.04 | grpo.beta=10
grpo.num_iterations=2 & grpo.save_steps=2 | grpo.epsilon=0 | grpo.epsilon=1e-9
grpo.num_iterations=2 & grpo.save_steps=2 & grpo.delta=1.5
grpo.num_iterations=2 & grpo.save_steps=2 & grpo.epsilon_high=0.0001 | grpo.delta=1.5
grpo.delta=0.5 | grpo.epsilon_high=0.28 | grpo.loss_type=grpo | grpo.loss_type=bnpo
grpo.loss_type=dr_grpo | grpo.loss_type=luspo | grpo.loss_type=cispo | grpo.loss_type=sapo
grpo.loss_type=vespo | grpo.loss_type=luspo & grpo.importance_sampling_level=sequence
grpo.loss_type=cispo & grpo.epsilon_high=5 | grpo.loss_type=sapo & grpo.sapo_temperature_neg=2
grpo.loss_type=sapo & grpo.sapo_temperature_pos=2 | grpo.loss_type=vespo & grpo.vespo_k_pos=1
grpo.loss_type=vespo & grpo.vespo_lambda_pos=-5 | grpo.loss_type=vespo & grpo.vespo_k_neg=1
grpo.loss_type=vespo & grpo.vespo_lambda_neg=0 | grpo.loss_type=dr_grpo & grpo.beta=0.04
grpo.loss_type=sapo & grpo.beta=0.04 | grpo.importance_sampling_level=sequence
grpo.multi_objective_aggregation=normalize_then_sum | grpo.scale_rewards=batch
grpo.scale_rewards=none | grpo.scale_rewards=true | grpo.mask_truncated_completions=true
grpo.mask_truncated_completions=true & grpo.max_completion_length=4
grpo.ref_model_mixup_alpha=0.5 | grpo.ref_model_sync_steps=1 | grpo.top_entropy_quantile=0.2
grpo.top_entropy_quantile=0 | grpo.entropy_coef=0.01 | grpo.entropy_coef=-1
grpo.use_adaptive_entropy=true | grpo.use_adaptive_entropy=true & grpo.entropy_coef=0.01
grpo.entropy_coef_min=0.5 | grpo.entropy_coef_max=0.1 | grpo.entropy_coef_delta=1
grpo.entropy_target=5 | grpo.max_tool_calling_iterations=1
grpo.vllm_importance_sampling_correction=false | grpo.vllm_importance_sampling_mode=token_mask
grpo.vllm_importance_sampling_clip_max=2 | grpo.vllm_importance_sampling_clip_min=0.5
grpo.off_policy_mask_threshold=0.5
grpo.use_bias_correction_kl=false | grpo.beta=0.04 & grpo.use_bias_correction_kl=false
grpo.log_completions=true | grpo.log_multimodal=false
grpo.num_completions_to_print=1 & grpo.log_completions=true
grpo.num_completions_to_print=-1 & grpo.log_completions=true
grpo.log_completions=true & grpo.log_unique_prompts=true | grpo.log_completions_hub_repo=me/x
grpo.use_transformers_continuous_batching=true | grpo.use_transformers_paged=true
grpo.transformers_continuous_batching_config={block_size: 8} | lora.auto_mapping={}
lora.peft_version=0.1 | lora.revision=x | lora.r=1 | lora.r=64 | lora.r=100000 | lora.r=129
lora.target_modules=[q_proj] | lora.target_modules='.*(q|k)_proj'
lora.target_modules=[layers.0.self_attn.q_proj] | lora.target_modules=null
lora.exclude_modules=[q_proj] | lora.exclude_modules=[nothing] | lora.lora_alpha=1
lora.lora_alpha=100000 | lora.lora_dropout=0.5 | lora.fan_in_fan_out=true | lora.bias=all
lora.bias=lora_only | lora.use_rslora=true | lora.init_lora_weights=gaussian
lora.init_lora_weights=eva | lora.init_lora_weights=olora | lora.init_lora_weights=pissa
lora.init_lora_weights=pissa_niter_4 | lora.init_lora_weights=pissa_niter_x
lora.init_lora_weights=corda | lora.init_lora_weights=loftq | lora.init_lora_weights=orthogonal
lora.init_lora_weights=mica & rollout=auto | lora.init_lora_weights=lora_ga
lora.target_modules=[q_proj] & lora.layers_to_transform=[0]
lora.target_modules=[q_proj] & lora.layers_to_transform=0
lora.target_modules=[q_proj] & lora.layers_to_transform=[99]
lora.target_modules=[q_proj,v_proj] & lora.layers_to_transform=[0,99]
lora.target_modules=[q_proj] & lora.layers_to_transform=[-1]
lora.target_modules=[q_proj] & lora.layers_to_transform=[0] & lora.layers_pattern=layers
lora.target_modules=[q_proj] & lora.layers_to_transform=[0] & lora.layers_pattern=nothing
lora.target_modules=[q_proj] & lora.layers_pattern=layers | lora.rank_pattern={q_proj: 4}
lora.rank_pattern={nothing: 4} | lora.rank_pattern={q_proj: 100000}
lora.alpha_pattern={q_proj: 4} | lora.alpha_pattern={nothing: 4} | lora.alpha_pattern={q_proj: 0}
lora.megatron_config={a: 1} | lora.megatron_core=x | lora.loftq_config={loftq_bits: 4}
lora.eva_config={rho: 1.0} | lora.corda_config={corda_method: ipm}
lora.lora_ga_config={direction: x} | lora.use_dora=true & rollout=auto
lora.use_dora=true & rollout=generate | lora.velora_config={num_groups: 2} & rollout=auto
lora.alora_invocation_tokens=[5,6] & rollout=auto | lora.use_qalora=true & rollout=auto
lora.qalora_group_size=8 | lora.monteclora_config={}
lora.layer_replication=[[0,2],[1,3]] & rollout=generate
lora.layer_replication=[[0,2],[1,3]] & rollout=auto
lora.layer_replication=[[0,1]] & rollout=generate
lora.runtime_config={ephemeral_gpu_offload: true} | lora.lora_bias=true & rollout=auto
lora.target_parameters=[nothing.here] & rollout=auto
lora.target_parameters=[mlp.down_proj.weight] & rollout=auto
lora.target_modules=[] & lora.target_parameters=[mlp.down_proj.weight] & rollout=auto
lora.target_modules=[] & lora.target_parameters=[nothing.here] & rollout=auto | lora.use_bdlora={}
lora.arrow_config={} | lora.kasa_config={} | lora.ensure_weight_tying=true | seed=4294967295
data.limit=1 | data.limit=4 | data.max_prompt_tokens=8 | data.max_prompt_tokens=60
holdout.validation_rows=0 | holdout.report_rows=1 | holdout.every=1
holdout.patience=1 & holdout.every=1 | holdout.batch_size=1 | holdout.max_new_tokens=1
holdout.max_new_tokens=128 | rewards={correctness_reward_func: -1}
rewards={correctness_reward_func: 1000000}
rewards={int_reward_func: 1, strict_format_reward_func: 0} | watch.samples_kept=0
watch.samples_kept=100000 | watch.samples_every=100 | watch.stop_on_lost_batches=false
watch.wandb=offline | model.attn_implementation=eager | model.attn_implementation=sdpa
model.attn_implementation=flex_attention | model.dtype=bfloat16 | rollout=generate
rollout=generate & model.attn_implementation=eager
grpo.top_k=1099511627776 | grpo.temperature=1000000 | grpo.max_grad_norm=1e30
grpo.max_grad_norm=1e300 | grpo.torch_empty_cache_steps=1099511627776
holdout.batch_size=1099511627776 | data.limit=1099511627776 | watch.samples_kept=1099511627776
holdout.every=1099511627776 | grpo.logging_steps=1099511627776 | grpo.save_steps=1099511627776
grpo.warmup_steps=1099511627776 | sampling={band: [0.2, 0.8]} | sampling={draw: 2}
sampling={band: [0, 1], explore: 0} | sampling.explore=0.5 | sampling.rates=''
sampling={band: [0.8, 0.2]} | sampling={draw: 0}
grpo.loss_type=sapo & grpo.sapo_temperature_pos=1099511627776
grpo.loss_type=vespo & grpo.vllm_importance_sampling_mode=token_truncate
grpo.loss_type=vespo & grpo.vllm_importance_sampling_mode=token_truncate & grpo.vespo_k_pos=0
grpo.loss_type=vespo & grpo.vllm_importance_sampling_mode=token_truncate & grpo.vespo_k_neg=1
grpo.loss_type=vespo & grpo.vllm_importance_sampling_mode=token_truncate & grpo.vespo_lambda_neg=0
grpo.loss_type=vespo & grpo.vllm_importance_sampling_mode=token_truncate & grpo.vespo_lambda_pos=9
grpo.loss_type=sapo & grpo.delta=2
grpo.use_adaptive_entropy=true & grpo.entropy_target=5 & grpo.entropy_coef_delta=1
grpo.use_adaptive_entropy=true & grpo.entropy_coef_min=5 | lora.velora_config={} & rollout=auto
lora.lora_alpha=1000000 | lora.lora_alpha=1099511627776 | lora.init_lora_weights=''
grpo.neftune_noise_alpha=1000000 | grpo.per_device_train_batch_size=65536
grpo.per_device_train_batch_size=1099511627776 | holdout.stop_below=0.5 & holdout.every=1
holdout.keep=last | holdout={validation_rows: 0, patience: 1} | holdout.report_rows=1000000
holdout.validation_rows=1000000 | data.level=foo | data.generated_rows=1 | data.generated_rows=20
data.revision=x | model.revision=x | grpo.off_policy_mask_threshold=1e30 | grpo.weight_decay=100
grpo.weight_decay=101 | grpo.beta=100 | grpo.adam_epsilon=1e30 | grpo.learning_rate=100
grpo.learning_rate=1e300 | grpo.lr_scheduler_kwargs=foo | grpo.lr_scheduler_kwargs={a: 1}
grpo.optim=sgd & grpo.optim_args='momentum=0.9' | grpo.optim=sgd & grpo.optim_args='momentun=0.9'
rewards={int_reward_func: 1e30} | rewards={int_reward_func: -.inf}
model.tiny={heads: 6, kv_heads: 2} | watch.wandb_project='' | grpo.ddp_bucket_cap_mb=0
grpo.pad_to_multiple_of=1099511627776 | grpo.num_train_epochs=1e300
grpo.vllm_tensor_parallel_size=0 | grpo.vllm_server_port=70000
"""


def settings() -> list[str]:
    """Of the table, each once."""
    words = [word.strip() for line in SETTINGS.strip().splitlines() for word in line.split(" | ")]
    return list(dict.fromkeys(words))


def tried(wanted: Sequence[str], place: Path) -> dict[str, Any]:
    """Train with settings in a process of its own; how that ended, and what it trained."""
    name = f"run-{len(list(place.glob('run-*.txt'))):03d}"
    said, run = place / f"{name}.txt", place / "outputs" / name
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _train(" & ".join(wanted), run, said)
    code = _waited(pid)
    text = said.read_text(encoding="utf-8", errors="replace")
    found: dict[str, Any] = {
        "settings": list(wanted),
        "code": code,
        "seconds": round(time.monotonic() - began, 1),
        "late": (run / "config.yaml").exists() and code != 0,
        "ending": _ending(text) if code else "",
    }
    if code == 0:
        found |= _trained(run)
    return found | {"odd": _odd(found)}


def _ending(text: str) -> str:
    """The error in what a run said, or its last line."""
    lines = [line for line in text.splitlines() if line.strip()]
    if "Traceback" in text:
        return f"Traceback: {lines[-1][:300]}"
    return next((line for line in reversed(lines) if line.startswith("error")), lines[-1])[:400]


def together(wanted: Sequence[str], most: int) -> list[list[str]]:
    """Settings that share no key, at most so many in one run."""
    groups: list[tuple[set[str], list[str]]] = []
    for setting in wanted:
        keys = {part.partition("=")[0] for part in setting.split(" & ")}
        for taken, group in groups:
            if len(group) < most and not taken & keys:
                taken.update(keys)
                group.append(setting)
                break
        else:
            groups.append((keys, [setting]))
    return [group for _, group in groups]


def halved(group: Sequence[str], place: Path) -> list[dict[str, Any]]:
    """Try settings in one run; where that ends badly, in two halves, down to single ones."""
    result = tried(group, place)
    if (result["code"] == 0 and not result["odd"]) or len(group) == 1:
        return [result]
    half = len(group) // 2
    return [*halved(group[:half], place), *halved(group[half:], place)]


def _train(setting: str, run: Path, said: Path) -> None:
    """In the forked process: what `xmlgrpo-train` does, with its output in a file."""
    to = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(to, 1)
    os.dup2(to, 2)
    words = [*SMALL, *setting.split(" & ")]
    sys.argv = ["xmlgrpo-train", "--config", str(ROOT / "configs/tiny.yaml"), "--run", str(run)]
    sys.argv += words
    code = 1
    try:
        train_main()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _waited(pid: int) -> int:
    """A child's exit code; None of one that took too long."""
    for _ in range(LIMIT_S * 10):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return -1


def _trained(run: Path) -> dict[str, Any]:
    """The adapter's digest, how many of its matrices B have moved from 0, the rows of metrics."""
    weights = load_file(run / "adapter" / "adapter_model.safetensors")
    second = [weight for name, weight in weights.items() if "lora_B" in name]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = {key: value for row in rows for key, value in row.items()}
    return {
        "adapter": sha256(
            b"".join(weights[name].float().numpy().tobytes() for name in sorted(weights))
        ).hexdigest()[:12],
        "matrices": len(weights),
        "moved": sum(bool(weight.any()) for weight in second),
        "of": len(second),
        "finite": all(weight.isfinite().all() for weight in weights.values()),
        "steps": max((row["step"] for row in rows), default=0),
        "loss": last.get("loss"),
        "grad_norm": last.get("grad_norm"),
        "kl": last.get("kl"),
    }


def main() -> None:
    """Try all, or those that are named, and say what is odd."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("settings", nargs="*", help="a=b & c=d; default: all")
    made.add_argument("--place", type=Path, default=Path("outputs/settings"))
    made.add_argument("--base", type=Path, help="the folder with the tiny model")
    made.add_argument("--most", type=int, default=1, help="settings that one run tries")
    made.add_argument("--to", type=Path)
    made.add_argument("--check-only", action="store_true", help="train nothing")
    asked = made.parse_args()
    place, to = asked.place.resolve(), asked.to and asked.to.resolve()
    (place / "outputs").mkdir(parents=True, exist_ok=True)
    if asked.base and not (place / "outputs" / "base").exists():
        (place / "outputs" / "base").symlink_to(asked.base.resolve())
    os.chdir(place)
    found: list[dict[str, Any]] = []
    wanted = []
    for setting in asked.settings or settings():
        refused = refusal(setting)
        if refused is None:
            wanted.append(setting)
        else:
            found.append({"settings": [setting], "code": 2, "ending": refused, "odd": ""})
            print(f"refused  {setting}: {refused}", flush=True)
    if asked.check_only:
        print(*wanted, sep="\n")
        return
    for group in together(wanted, asked.most):
        for result in halved(group, place):
            found.append(result)
            print(result["odd"] or ("refused" if result["code"] else "trained"), end="  ")
            print(json.dumps(result), flush=True)
        if to:
            to.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def refusal(setting: str) -> str | None:
    """What `xmlgrpo-train` says before it reads data; None where it goes on."""
    try:
        config = load_config(ROOT / "configs/tiny.yaml", [*SMALL, *setting.split(" & ")])
        refuse_early(config, 1)
        check_settings(config, RunFolder(Path("refused")), ALONE)
    except UserError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - all are listed
        return f"Traceback: {error!r}"
    return None


def _odd(result: dict[str, Any]) -> str:
    if result["ending"].startswith("Traceback"):
        return "TRACEBACK"
    if result["late"]:
        return "LATE"
    if result["code"] not in {0, 2}:
        return f"CODE {result['code']}"
    if result["code"] == 0 and (not result["finite"] or result["moved"] < result["of"]):
        return "NOT TRAINED"
    return ""


if __name__ == "__main__":
    main()
