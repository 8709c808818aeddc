"""Values that no run can have are refused before anything is read or built; fine ones are not."""

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_trainer.config.library_fields import GRPO_RULES, is_settled
from xmlgrpo_trainer.config.run_config import RunConfig, load_config
from xmlgrpo_trainer.plan.make import make_plan
from xmlgrpo_trainer.plan.shapes import find_shape
from xmlgrpo_trainer.prepare import CheckedSettings, check_planned, check_settings, refuse_early
from xmlgrpo_trainer.ranks.processes import ALONE

TINY = Path(__file__).parents[4] / "configs" / "tiny.yaml"

# what was set on top of configs/tiny.yaml, with & between two | what the one line must say
REFUSED_WITHOUT_A_LIBRARY = [
    ("grpo.max_step=3", "grpo.max_step is not a field of GRPOConfig; did you mean 'max_steps'?"),
    ("grpo.max_steps=-5", "grpo.max_steps: expected 1 or more, or -1 for whole epochs, got -5"),
    ("grpo.max_steps=0", "grpo.max_steps: expected 1 or more, or -1 for whole epochs, got 0"),
    ("grpo.max_steps=1.5", "grpo.max_steps: input should be a valid integer"),
    ("grpo.max_steps=ten", "grpo.max_steps: input should be a valid integer, got 'ten'"),
    ("grpo.max_steps=null", "grpo.max_steps: input should be a valid integer, got None"),
    ("grpo.max_steps=99999999999999999999", "grpo.max_steps: expected a number of at most"),
    ("grpo.num_train_epochs=0", "grpo.num_train_epochs: expected a number above 0 and at most"),
    ("grpo.max_completion_length=0", "grpo.max_completion_length: expected 1 or more, got 0"),
    ("grpo.learning_rate=.nan", "grpo.learning_rate: expected a finite number, got nan"),
    ("grpo.learning_rate=.inf", "grpo.learning_rate: expected a finite number, got inf"),
    ("grpo.learning_rate=-1", "grpo.learning_rate: expected 0 to 100, got -1"),
    ("grpo.dataloader_num_workers=5000", "expected 0 to 128, got 5000"),
    ("grpo.save_strategy=best", "expected steps or epoch; holdout: keeps the best, got 'best'"),
    ("grpo.fsdp=full_shard", "grpo.fsdp cannot be set here: every GPU holds the whole model"),
    ("grpo.learning_rate=1e-5x", "grpo.learning_rate: input should be a valid number"),
    ("grpo.learning_rate=[1e-5]", "grpo.learning_rate: input should be a valid number"),
    ("grpo.lr_scheduler_kwargs={min_lr: .nan}", "grpo.lr_scheduler_kwargs.min_lr: expected a fin"),
    ("grpo.activation_checkpointing=true", "set gradient_checkpointing, the same under every"),
    ("grpo.activation_checkpointing_kwargs={}", "set gradient_checkpointing_kwargs"),
    ("grpo.vllm_importance_sampling_cap=2", "set vllm_importance_sampling_clip_max, its newer"),
    (
        "grpo.gradient_checkpointing=true & grpo.gradient_checkpointing_kwargs={every_n_layers: 2}",
        "grpo.gradient_checkpointing_kwargs: expected no every_n_layers and no offload",
    ),
    ("grpo.save_total_limit=1", "grpo.save_total_limit: expected 2 or more"),
    ("grpo.pad_to_multiple_of=0", "grpo.pad_to_multiple_of: expected 1 to 4096, got 0"),
    ("model.attn_implementation=paged|sdpa", "continuous batching and cannot be trained with"),
    ("lora.layer_replication=[[0,1]]", "the model would have other layers, and be another one"),
    ("sampling.half_life=2", "sampling.half_life is read only with sampling.band or sampling"),
    ("grpo.loss_type=foo", "grpo.loss_type: expected one of grpo, bnpo, dr_grpo, dapo"),
    ("grpo.scale_rewards=foo", "grpo.scale_rewards: expected one of group, batch, none"),
    ("grpo.importance_sampling_level=word", "level: expected one of token, sequence, got 'word'"),
    ("grpo.vllm_importance_sampling_mode=x", "expected one of token_truncate, token_mask"),
    ("grpo.multi_objective_aggregation=x", "expected one of sum_then_normalize, normalize_then"),
    ("grpo.optim=adamw_troch", "one of 41 names, got 'adamw_troch'; did you mean 'adamw_torch'?"),
    (
        "grpo.optim=foo",
        "grpo.optim: expected one of 41 names, got 'foo'; known: adafactor, adagrad,",
    ),
    (
        "grpo.lr_scheduler_type=cosin",
        "expected one of 12 names, got 'cosin'; did you mean 'cosine'?",
    ),
    ("grpo.save_strategy=often", "grpo.save_strategy: input should be 'no', 'steps'"),
    ("grpo.weight_decay=-0.1", "grpo.weight_decay: expected 0 to 100"),
    ("grpo.max_grad_norm=-1", "grpo.max_grad_norm: expected 0 or more"),
    ("grpo.beta=-0.1", "grpo.beta: expected 0 to 100"),
    ("grpo.epsilon=-0.2", "grpo.epsilon: expected 0 or more"),
    ("grpo.epsilon_high=-1", "grpo.epsilon_high: expected 0 or more"),
    ("grpo.delta=0", "grpo.delta: expected a number above 0"),
    ("grpo.num_iterations=0", "grpo.num_iterations: expected 1 or more, got 0"),
    ("grpo.save_steps=0", "grpo.save_steps: expected 1 or more, got 0"),
    ("grpo.save_steps=-1", "grpo.save_steps: expected 1 or more, got -1"),
    ("grpo.save_steps=0.5", "grpo.save_steps: expected 1 or more, got 0.5"),
    ("grpo.logging_steps=0", "grpo.logging_steps: expected a number above 0, got 0"),
    ("grpo.dataloader_num_workers=-1", "grpo.dataloader_num_workers: expected 0 to 128"),
    ("grpo.top_entropy_quantile=2", "grpo.top_entropy_quantile: expected a number from 0 to 1"),
    ("grpo.sapo_temperature_neg=0", "grpo.sapo_temperature_neg: expected a number above 0"),
    ("grpo.vllm_gpu_memory_utilization=2", "expected a number above 0 and at most 1, got 2"),
    ("grpo.num_generations=1", "grpo.num_generations: expected at least 2 completions per prompt"),
    ("grpo.num_generations=null", "grpo.num_generations: expected a whole number, got None"),
    ("grpo.num_generations=5", "is not a multiple of num_generations = 5"),
    ("grpo.per_device_train_batch_size=60", "is not a multiple of num_generations = 8"),
    ("grpo.gradient_accumulation_steps=0", "gradient_accumulation_steps: expected 1 or more"),
    ("grpo.generation_batch_size=63", "a generation batch of 63 completions"),
    ("grpo.seed=3", "grpo.seed cannot be set here: set the top-level seed"),
    ("grpo.sync_ref_model=true", "grpo.sync_ref_model cannot be set here"),
    ("grpo.remove_unused_columns=true", "grpo.remove_unused_columns cannot be set here"),
    ("lora.r=0", "lora.r: expected 1 or more, got 0"),
    ("lora.r=-3", "lora.r: expected 1 or more, got -3"),
    ("lora.r=8.5", "lora.r: input should be a valid integer"),
    ("lora.lora_alpha=0", "lora.lora_alpha: expected a number above 0 and at most"),
    ("lora.lora_dropout=1", "lora.lora_dropout: expected a number from 0 to below 1, got 1"),
    ("lora.lora_dropout=-0.1", "lora.lora_dropout: expected a number from 0 to below 1"),
    ("lora.bias=some", "lora.bias: input should be 'none', 'all' or 'lora_only', got 'some'"),
    ("lora.init_lora_weights=false", "what is measured as 'before' would not be the base"),
    ("lora.init_lora_weights=pisa", "lora.init_lora_weights: input should be 'gaussian', 'eva'"),
    ("lora.target_modules=[lm_head]", "is one of Gemma 3's tied weights"),
    (
        "lora.init_lora_weights=pissa_niter_x",
        "lora.init_lora_weights: input should be 'gaussian', ",
    ),
    ("lora.init_lora_weights=eva", "expected a start that needs no pass over the data before"),
    (
        "lora.alpha_pattern={q_proj: 0}",
        "expected numbers above 0: an adapter times 0 learns nothing",
    ),
    ("grpo.eval_on_start=true", "held-out accuracy is measured by holdout:"),
    ("grpo.log_completions_hub_repo=me/x", "make push publishes, with a card and checks"),
    ("grpo.log_completions=true", "watch: decides which completions are shown and kept"),
    ("grpo.label_smoothing_factor=0.1", "GRPO has rewards, and no labels"),
    ("lora.inference_mode=true", "an adapter in that mode is not trained"),
    ("lora.peft_type=IA3", "lora.peft_type cannot be set here: always LORA"),
    ("lora.trainable_token_indices=[1]", "does not merge into a tied model"),
    ("seed=-1", "seed: input should be greater than or equal to 0, got -1"),
    ("seed=4294967296", "seed: input should be less than or equal to 4294967295"),
    ("seed=99999999999999999999999", "seed: input should be less than or equal to 4294967295"),
    ("seed=1.5", "seed: input should be a valid integer, got 1.5"),
    ("seed=true", "seed: input should be a valid integer, got True"),
    ("data.limit=-1", "data.limit: input should be greater than or equal to 1, got -1"),
    ("data.limit=0", "data.limit: input should be greater than or equal to 1, got 0"),
    ("data.generated_rows=100000000000000", "data.generated_rows: input should be less than or"),
    ("data.max_prompt_tokens=0", "data.max_prompt_tokens: input should be greater than"),
    ("data.source=csv", "data.source: input should be 'generated', 'hub' or 'json', got 'csv'"),
    ("holdout.report_rows=0", "holdout.report_rows: input should be greater than or equal to 1"),
    ("holdout.validation_rows=-1", "holdout.validation_rows: input should be greater than"),
    ("holdout.every=0", "holdout.every: input should be greater than or equal to 1"),
    ("holdout.keep=first", "holdout.keep: input should be 'best' or 'last'"),
    ("holdout={keep: last, patience: 2}", "end a run at its best adapter, but keep is 'last'"),
    ("holdout.patience=0", "holdout.patience: input should be greater than or equal to 1"),
    ("holdout.max_new_tokens=0", "holdout.max_new_tokens: input should be greater than"),
    ("holdout.batch_size=0", "holdout.batch_size: input should be greater than or equal to 1"),
    ("rewards={correctness_reward_func: .nan}", "rewards.correctness_reward_func: expected a fin"),
    ("watch.samples_every=0", "watch.samples_every: input should be greater than or equal to 1"),
    ("watch.wandb=maybe", "watch.wandb: input should be 'off', 'offline' or 'online'"),
    ("model.dtype=float16", "model.dtype: input should be 'auto', 'float32' or 'bfloat16'"),
    ("model.tiny={layers: 0}", "tiny.layers: expected a finite number above 0"),
    ("model.tiny={layers: 1000000}", "tiny.layers: expected at most 256"),
    ("model.tiny={vocab_size: 99999999}", "tiny.vocab_size: expected 384"),
    ("model.tiny={warm_steps: 1000000000}", "tiny.warm_steps: expected at most 1,000,000 problems"),
    ("model.tiny={layer: 2}", "model.tiny.layer is not a field of TinySettings"),
    ("model.tiny={lyers: 2}", "did you mean 'layers'"),
    ("model.tiny={head_dim: 31}", "tiny.head_dim: expected an even"),
    ("rollout_weights=int4", "rollout_weights: input should be 'int8', got 'int4'"),
    (
        "rollout_weights=int8 & rollout=vllm & model.device=cpu",
        "needs a GPU, but model.device is 'cpu'; and rollout_weights 'int8' needs rollout 'graph'",
    ),
    ("rollout_weights=int8 & rollout=generate", "needs rollout 'graph' (or 'auto'), got 'gener"),
    ("merged_pass=true & packed_rows=false", "merged_pass needs packed_rows: true"),
    ("merged_pass=true & lora={lora_dropout: 0.05}", "needs lora.lora_dropout: 0, got 0.05: merg"),
    ("merged_pass=true & lora={bias: all}", "merged_pass needs lora.bias: none, got 'all': it tr"),
    ("rollout=fast", "rollout: input should be 'auto', 'generate', 'graph' or 'vllm'"),
    ("task=sql9", "no task is named 'sql9'"),
    ("grpo.max_completion_length=100000000", "do not fit into the model's context of 2048"),
    ("holdout.max_new_tokens=2000", "do not fit into the model's context of 2048"),
    ("data.max_prompt_tokens=2000", "do not fit into the model's context of 2048"),
    ("model.tiny={max_positions: 300}", "do not fit into the model's context of 300"),
    # what would be taken, and never looked at
    ("grpo.vllm_gpu_memory_utilization=0.5", "is read only where rollout is vllm, and that is 'gr"),
    ("grpo.vllm_server_port=8001", "is read only where grpo.vllm_mode is server, and that is"),
    ("grpo.sapo_temperature_pos=2", "is read only where grpo.loss_type is sapo, and that is"),
    ("grpo.entropy_target=5", "is read only where grpo.use_adaptive_entropy is true"),
    ("grpo.neftune_noise_alpha=5", "is read only where packed_rows is false, and that is True"),
    ("grpo.use_bias_correction_kl=false", "is read only where grpo.beta is a number above 0"),
    ("grpo.loss_type=sapo & grpo.delta=2", "where grpo.loss_type is one of grpo, bnpo, dr_grpo"),
    ("grpo.optim_target_modules=all-linear", "where grpo.optim is one of GaLore's or APOLLO's"),
    ("grpo.lr_scheduler_kwargs={min_lr: 1}", "where grpo.lr_scheduler_type is not constant, and"),
    ("grpo.gradient_checkpointing_kwargs={use_reentrant: true}", "where grpo.gradient_checkpoin"),
    ("lora.qalora_group_size=8", "is read only where lora.use_qalora is true, and that is False"),
    ("grpo.do_train=true", "grpo.do_train cannot be set here: make train trains"),
    ("grpo.ddp_backend=gloo", "--gpus N starts the processes, and chooses it"),
    ("grpo.cast_lm_head_to_fp32=true", "it parts Gemma 3's head from its embeddings"),
    ("lora.kasa_config={}", "its adapter changes the model before the first step"),
    ("lora.revision=x", "lora.revision cannot be set here: set model.revision"),
    ("model.revision=x", "model.revision is read only of a model on the Hub, not of 'tiny'"),
    ("data.revision=x", "data.revision is read only with data.source 'hub'"),
    ("sampling.explore=0.5", "sampling.explore is read only with sampling.band"),
    ("holdout={validation_rows: 0, patience: 1}", "by its validations, but validation_rows is 0"),
    # what no run can have, and would notice late
    ("grpo.temperature=0", "grpo.temperature: expected above 0, or a group's completions are all"),
    ("grpo.top_k=1", "grpo.top_k: expected 0 (all tokens), or 2 or more: with 1 a group's"),
    ("rewards={x: 1}", "no reward is named 'x'; there are: correctness_reward_func"),
    ("grpo.top_k=-5", "grpo.top_k: expected 0 (all tokens), or 2 or more"),
    ("grpo.top_p=2", "grpo.top_p: expected a number above 0 and at most 1, got 2"),
    ("grpo.min_p=-1", "grpo.min_p: expected 0 to below 1"),
    ("grpo.adam_beta1=1.5", "grpo.adam_beta1: expected a number from 0 to below 1, got 1.5"),
    ("grpo.warmup_steps=-1", "grpo.warmup_steps: expected 0 or more, got -1"),
    ("lora.target_modules=[]", "lora.target_modules: expected names of modules, or a pattern"),
    (
        "lora.target_modules=([a-z_.]+)+Z",
        "a pattern that takes over 0.3 s on a few names of modules",
    ),
    ("lora.rank_pattern={'(.*)*(.*)*(.*)*(.*)*z': 3}", "lora: '(.*)*(.*)*(.*)*(.*)*z': a pattern"),
    ("grpo.min_p=1", "grpo.min_p: expected 0 to below 1, or a group's completions are all equal"),
    ("grpo.loss_type=vespo", "vespo needs grpo.vllm_importance_sampling_mode: token_truncate or"),
    ("grpo.use_adaptive_entropy=true & grpo.entropy_coef_min=5", "expected at most entropy_coef_"),
    ("grpo.max_grad_norm=1e300", "grpo.max_grad_norm: expected a number of at most 3.4e+38"),
    ("grpo.learning_rate=101", "grpo.learning_rate: expected 0 to 100, got 101"),
    ("grpo.per_device_train_batch_size=1099511627776", "expected at most 1,000,000, got 10995116"),
    ("grpo.include_num_input_tokens_seen=foo", "expected true, false, all, non_padding or no"),
    ("grpo.lr_scheduler_kwargs=foo", "grpo.lr_scheduler_kwargs: expected keys and values, got"),
    ("lora.init_lora_weights=''", "lora.init_lora_weights: input should be 'gaussian', 'eva'"),
    ("model.tiny={heads: 6, kv_heads: 2}", "tiny.heads: expected a divisor of hidden_size=128"),
    ("watch.wandb_project=''", "watch.wandb_project: string should have at least 1 character"),
]
REFUSED_BY_A_LIBRARY = [
    ("model.tiny={hidden_size: 100000000}", "the model's weights alone take"),
    ("model.attn_implementation=flex_attention", "has no backward pass on a CPU; leave it out"),
    ("grpo.torch_compile_backend=foo", "grpo: trl refuses these settings: 'FOO' is not a valid"),
    ("grpo.torch_compile_mode=foo", "grpo: trl refuses these settings: Unrecognized mode=foo"),
    ("grpo.accelerator_config={dispatch_batches: true}", "holds texts; leave it out"),
    ("grpo.router_aux_loss_coef=0.1", "expected a model with experts and a router, got gemma3_te"),
    ("grpo.optim=adamw_bnb_8bit", "You need to install `bitsandbytes`"),
    (
        "grpo.optim=galore_adamw & grpo.optim_target_modules=all-linear",
        "You need to install `galore_torch`",
    ),
    (
        "grpo.optim=apollo_adamw & grpo.optim_target_modules=all-linear",
        "You need to install `apollo_torch`",
    ),
    ("grpo.dataloader_persistent_workers=true", "option needs num_workers > 0"),
    ("grpo.dataloader_multiprocessing_context=spawn", "can only be used with multi-process"),
    (
        "grpo.dataloader_num_workers=1 & grpo.dataloader_multiprocessing_context=foo",
        "should specify a valid start method",
    ),
    ("grpo.optim_args=foo", "grpo: the optimiser refuses these settings"),
    ("grpo.optim_args='weight_decay=0.1'", "adamw_torch reads no 'weight_decay=0.1'"),
    (
        "grpo.optim=sgd & grpo.optim_args='momentum=0.9, nesterow=true'",
        "grpo.optim_args: sgd reads no 'nesterow=true'",
    ),
    (
        "grpo.lr_scheduler_type=cosine & grpo.lr_scheduler_kwargs={foo: 1}",
        "unexpected keyword argument 'foo'",
    ),
    ("grpo.lr_scheduler_type=cosine_with_min_lr", "min_lr or min_lr_rate should be set"),
    ("grpo.lr_scheduler_type=reduce_lr_on_plateau", "requires an eval strategy"),
    ("grpo.warmup_steps=-1", "warmup_steps"),
    ("grpo.save_steps=7.5", "must be an integer if bigger than 1: 7.5"),
    ("grpo.generation_batch_size=96", "must be divisible by the global batch size"),
    ("grpo.auto_find_batch_size=true", "auto_find_batch_size is not supported by GRPO"),
    ("grpo.log_level=loud", "grpo: trl refuses these settings: KeyError 'loud'"),
    ("grpo.debug=everything", "everything is not a valid DebugOption"),
    ("grpo.accelerator_config=nofile.json", "No such file or directory: 'nofile.json'"),
    ("grpo.use_liger_kernel=true", "liger-kernel is not installed"),
    ("lora.target_modules=all-liner", "Target modules all-liner not found in the base model"),
    ("lora.target_modules=[nope]", "no module of this model is named 'nope'; its linear modules"),
    ("lora.target_modules=[q_proj,v_prj]", "no module of this model is named 'v_prj'; its linear"),
    ("lora.exclude_modules='.*'", "All modules were excluded"),
    ("lora.rank_pattern={q_proj: 0}", "`r` should be a positive integer value"),
    ("lora.alpha_pattern={q_proj: x}", "lora: peft refuses these settings"),
    ("lora.layers_to_transform=[0]", "cannot be used when `target_modules` is a str"),
    ("lora.init_lora_weights=corda", "run `preprocess_corda` first"),
    ("lora.r=129", "lora.r: expected at most 128, the rank of the largest matrix that is adapted"),
    ("lora.r=100000", "lora.r: expected at most 128, the rank of the largest matrix"),
    ("lora.rank_pattern={q_proj: 129}", "lora.r: expected at most 128, the rank of the largest"),
    ("lora.rank_pattern={nope: 4}", "keys did not match any targeted module and were ignored"),
    ("lora.alpha_pattern={nope: 4}", "keys did not match any targeted module and were ignored"),
    ("lora.exclude_modules=[nope]", "no modules were excluded"),
    ("lora.fan_in_fan_out=true", "Setting fan_in_fan_out to False"),
    ("lora.eva_config={rho: 1.0}", "`eva_config` specified but will be ignored"),
    ("lora.loftq_config={loftq_bits: 4}", "`loftq_config` specified but will be ignored"),
    ("lora.lora_bias=true & rollout=auto", "merging LoRA weights won't be possible"),
    ("lora.target_parameters=[no.where] & rollout=auto", "were set but no parameter was matched"),
    (
        "lora.target_modules=[q_proj] & lora.layers_to_transform=[0,3]",
        "lora.layers_to_transform: no adapted module of this model is in a layer 3",
    ),
    ("model.attn_implementation=foo", 'Specified `attn_implementation="foo"` is not supported'),
    ("model.device=cuda", "finds no CUDA GPU"),
    ("model.backend=unsloth & model.device=auto & packed_rows=false", "needs a CUDA GPU"),
    ("model.backend=unsloth & model.device=auto", "set that, or packed_rows=false"),
    ("packed_rows=false & merged_pass=true", "merged_pass needs packed_rows: true"),
    ("merged_pass=true & rollout=generate", "merged_pass needs rollout 'graph' (or 'auto')"),
    ("model.load_in_4bit=true", "needs a CUDA GPU"),
    ("rollout=vllm", "needs a GPU"),
    ("rewards={correctness_reward_func: 0}", "a reward with a weight other than 0"),
]
FINE = [
    "grpo.max_steps=-1",
    "grpo.max_steps=1",
    "grpo.learning_rate=0",
    "grpo.learning_rate=1",
    "grpo.weight_decay=0.1",
    "grpo.adam_beta1=0 & grpo.adam_beta2=0",
    "grpo.max_grad_norm=0",
    "grpo.warmup_steps=0.1",
    "grpo.warmup_steps=1000",
    "grpo.optim=adafactor",
    "grpo.optim=sgd & grpo.optim_args='momentum=0.9'",
    "grpo.optim=adamw_torch_fused",
    "grpo.lr_scheduler_type=cosine",
    "grpo.lr_scheduler_kwargs={}",
    "grpo.loss_type=dr_grpo",
    "grpo.loss_type=vespo & grpo.vllm_importance_sampling_mode=token_truncate & grpo.vespo_k_pos=1",
    "grpo.scale_rewards=none",
    "grpo.beta=0.04",
    "grpo.epsilon_high=0.28",
    "grpo.delta=1.5",
    "grpo.num_iterations=2",
    "grpo.temperature=0.01",
    "grpo.top_p=1",
    "grpo.top_k=50",
    "grpo.min_p=null",
    "grpo.max_completion_length=null",
    "grpo.max_completion_length=768",
    "grpo.save_strategy=epoch",
    "grpo.save_total_limit=null",
    "grpo.logging_steps=0.5",
    "grpo.gradient_checkpointing=true",
    "grpo.full_determinism=true",
    "grpo.steps_per_generation=2",
    "grpo.generation_batch_size=128",
    "grpo.dataloader_num_workers=2",
    "lora.r=1",
    "lora.r=64",
    "lora.lora_alpha=1",
    "lora.lora_dropout=0.5",
    "lora.target_modules=[q_proj,v_proj]",
    "lora.target_modules=[layers.0.self_attn.q_proj]",
    "lora.target_modules='.*(q|k)_proj'",
    "lora.target_modules=null",
    "lora.init_lora_weights=pissa",
    "lora.init_lora_weights=pissa_niter_4",
    "lora.r=128",
    "lora.target_modules=[q_proj] & lora.layers_to_transform=[0,2]",
    "lora.use_dora=true & rollout=auto",
    "lora.use_rslora=true",
    "lora.rank_pattern={q_proj: 4}",
    "seed=4294967295",
    "data.limit=1",
    "data.max_prompt_tokens=944",
    "holdout.validation_rows=0",
    "holdout.max_new_tokens=768",
    "rewards={correctness_reward_func: -1}",
    "rewards={correctness_reward_func: 1000000}",
    "watch.samples_kept=0",
    "model.attn_implementation=eager",
    "rollout=generate",
]


def check(root: Path, *settings: str) -> CheckedSettings:
    """What `xmlgrpo-train` checks before it reads the data."""
    config = checked_without_a_library(*settings)
    return check_settings(config, RunFolder(root), ALONE)


def checked_without_a_library(*settings: str) -> RunConfig:
    config = load_config(TINY, list(settings))
    refuse_early(config, 1)
    return config


def is_one_sentence(shown: str, part: str) -> None:
    assert part in shown
    assert "\n" not in shown


@pytest.mark.parametrize(("setting", "part"), REFUSED_WITHOUT_A_LIBRARY)
def test_what_needs_no_library_is_refused_first(setting: str, part: str) -> None:
    with pytest.raises(UserError) as caught:
        checked_without_a_library(*setting.split(" & "))
    is_one_sentence(str(caught.value), part)


@pytest.mark.parametrize(("setting", "part"), REFUSED_BY_A_LIBRARY)
def test_what_a_library_refuses_is_shown_before_anything_is_built(
    tmp_path: Path, setting: str, part: str
) -> None:
    with pytest.raises(UserError) as caught:
        check(tmp_path, *setting.split(" & "))
    is_one_sentence(str(caught.value), part)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ("lora.r=0", "lora.r: expected 1 or more, got 0"),
        ("grpo.max_steps=-5", "grpo.max_steps: expected 1 or more, or -1 for whole epochs"),
        ("grpo.sapo_temperature_pos=2", "is read only where grpo.loss_type is sapo"),
        ("grpo.max_completion_length=100000000", "do not fit into the model's context of 2048"),
        ("model.name=google/gemma-3-1b-it & data.max_prompt_tokens=32768", "context of 32768"),
    ],
)
def test_a_plan_is_not_made_of_them(setting: str, part: str) -> None:
    with pytest.raises(UserError) as caught:
        make_plan(load_config(TINY, setting.split(" & ")), None)
    is_one_sentence(str(caught.value), part)


# what was set on top of a configuration | the GPU that is planned for, None for this machine | what
# both the plan and the run must say
REFUSED_BY_PLAN_AND_RUN = [
    ("tiny", "lora.target_modules=[nope]", None, "no module of this model is named 'nope'"),
    ("tiny", "lora.target_modules=[q_proj,nope]", None, "no module of this model is named 'nope'"),
    ("tiny", "model.attn_implementation=foo", None, 'Specified `attn_implementation="foo"` is not'),
    ("tiny", "model.attn_implementation=flash_attention_2", None, "doesn't seem to be installed"),
    ("tiny", "lora.r=129", None, "expected at most 128, the rank of the largest matrix"),
    (
        "tiny",
        "lora.bias=all & grpo.beta=1 & lora.target_modules=[nope]",
        None,
        "no module of this model is named",
    ),
    ("tiny", "lora.rank_pattern={q_proj: 0}", None, "`r` should be a positive integer"),
    ("tiny", "grpo.optim=adamw_8bit", None, "install `bitsandbytes`"),
    ("tiny", "grpo.lr_scheduler_type=greedy", None, "requires an eval strategy"),
    ("tiny", "grpo.save_steps=2.5", None, "must be an integer if bigger than 1"),
    ("tiny", "grpo.num_iterations=3", None, "falls inside a generation batch"),
    ("tiny", "rewards={correctness_reward_func: 0}", None, "a weight other than 0"),
    ("gemma3-1b", "lora.target_modules=[nope]", "T4", "no module of this model is named 'nope'"),
    ("gemma3-1b", "model.attn_implementation=foo", "T4", "is not supported"),
    ("gemma3-4b-qlora", "lora.target_modules='.*no'", "H100", "No modules were targeted"),
    ("qwen3-0.6b", "lora.target_modules=[self_attn]", "L4", "is not supported"),
    (
        "llama-3.2-1b",
        "lora.target_modules=[q_norm]",
        "L4",
        "no module of this model is named 'q_norm'",
    ),
    ("smollm2-135m", "lora.layers_to_transform=[99]", "L4", "not found in the base model"),
]


@pytest.mark.parametrize(("name", "setting", "gpu", "part"), REFUSED_BY_PLAN_AND_RUN)
def test_a_plan_refuses_what_the_run_would(
    tmp_path: Path, name: str, setting: str, gpu: str | None, part: str
) -> None:
    config = load_config(TINY.with_stem(name), setting.split(" & "))
    shape = find_shape(config.model)
    with pytest.raises(UserError) as caught:
        check_planned(config, shape, 1, here=gpu is None)
    is_one_sentence(str(caught.value), part)
    if gpu is None:
        with pytest.raises(UserError) as of_run:
            check_settings(config, RunFolder(tmp_path), ALONE)
        assert str(of_run.value) == str(caught.value)


@pytest.mark.parametrize(("name", "setting", "gpu", "part"), REFUSED_BY_PLAN_AND_RUN)
def test_what_is_settled_without_a_library_is_none_of_these(
    name: str, setting: str, gpu: str | None, part: str
) -> None:
    config = load_config(TINY.with_stem(name), setting.split(" & "))
    shape = find_shape(config.model)
    ranks = {name: min(sizes) for name, sizes in shape.projections().items()}
    attention = config.model.attn_implementation
    is_of_rewards = setting.startswith("rewards")  # which no library has a say in
    assert is_settled(config.grpo, config.lora, attention, ranks) == is_of_rewards


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("gemma3-1b", "grpo.optim=adamw_8bit & grpo.tf32=true"),
        ("gemma3-1b", "model.attn_implementation=flash_attention_2 & grpo.use_liger_kernel=true"),
        ("gemma3-4b-qlora", "lora.target_modules='.*language_model.*q_proj'"),
        ("qwen3-0.6b", "grpo.gradient_checkpointing=false"),
        ("gemma3-270m", "model.attn_implementation=flex_attention & rollout=generate"),
    ],
)
def test_what_is_not_installed_here_may_be_elsewhere(name: str, setting: str) -> None:
    config = load_config(TINY.with_stem(name), setting.split(" & "))
    check_planned(config, find_shape(config.model), 1, here=False)


@pytest.mark.parametrize("setting", FINE)
def test_a_fine_value_stays_fine(tmp_path: Path, setting: str) -> None:
    assert check(tmp_path, *setting.split(" & ")).placement.device == "cpu"


def compared_with(name: str) -> set[str]:
    """The texts that trl's trainer compares `self.<name>` with."""
    from trl import GRPOTrainer

    found: set[str] = set()
    for node in ast.walk(ast.parse(inspect.getsource(inspect.getmodule(GRPOTrainer)))):  # type: ignore[arg-type]  # the class has a module
        if isinstance(node, ast.Compare) and ast.unparse(node.left) == f"self.{name}":
            values: Any = ast.literal_eval(node.comparators[0])
            found |= {values} if isinstance(values, str) else set(values)
    return found


@pytest.mark.parametrize(
    "name",
    [
        "loss_type",
        "importance_sampling_level",
        "scale_rewards",
        "multi_objective_aggregation",
        "vllm_importance_sampling_mode",
    ],
)
def test_the_choices_are_those_that_trls_trainer_knows(name: str) -> None:
    rule = GRPO_RULES[name]
    assert rule.expected == "one of " + ", ".join(
        sorted(compared_with(name), key=rule.expected.index)
    )
