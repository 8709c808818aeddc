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
from xmlgrpo_run.metrics import read_log
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

# Every field of trl's and peft's dataclasses that may be set was tried with another value than its
# default; these have no result in the file yet.
TRIED = ROOT / "docs/measured/settings-cpu.json"
VESPO = "grpo.loss_type=vespo & grpo.vllm_importance_sampling_mode=token_truncate"
NOT_YET = (
    "grpo.accelerator_config={use_seedable_sampler: false}",
    "grpo.accelerator_config={gradient_accumulation_kwargs: {num_steps: 2}}",
    "grpo.accelerator_config={non_blocking: true}",
    "grpo.dataloader_num_workers=1 & grpo.dataloader_prefetch_factor=2",
    "lora.layer_replication=[[0,1]] & rollout=generate",
    "lora.target_modules=[] & lora.target_parameters=[mlp.down_proj.weight] & rollout=auto",
    VESPO,
    *(f"{VESPO} & grpo.vespo_{name}" for name in ("k_pos=0", "k_neg=1", "lambda_neg=0")),
    f"{VESPO} & grpo.vespo_lambda_pos=9",
    "lora.velora_config={} & rollout=auto",
    "grpo.optim=sgd & grpo.optim_args='momentum=0.9'",
    *("seed=4294967295", "rewards={correctness_reward_func: 1000000}", "grpo.learning_rate=100"),
    *("grpo.neftune_noise_alpha=1000000", "grpo.off_policy_mask_threshold=1e30", "grpo.beta=100"),
    *("grpo.weight_decay=100", "grpo.adam_epsilon=1e30"),
    *("holdout.report_rows=1000000", "holdout.validation_rows=1000000"),
)


def settings() -> list[str]:
    """What was tried, and what is to be, each once."""
    runs = json.loads(TRIED.read_text(encoding="utf-8"))["runs"]
    return list(dict.fromkeys([*(name for run in runs for name in run["settings"]), *NOT_YET]))


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
    rows = read_log(RunFolder(run).metrics).rows.values()
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
