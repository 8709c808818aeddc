"""Run folders as the other stages leave them, with files of the real formats and no model."""

import hashlib
import json
import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xmlgrpo_exporter.convert.modelfile import modelfile
from xmlgrpo_exporter.quants import FILE_TYPES, MERGE_LIMITS, limits_for, quant_of
from xmlgrpo_gguf.header import read_header
from xmlgrpo_rewards import reply
from xmlgrpo_rewards.interval import Share
from xmlgrpo_run.digests import digest, file_hashes, model_digest, model_files
from xmlgrpo_run.files import SEAL, sealed
from xmlgrpo_run.manifest import MANIFEST_FORMAT

BASE: dict[str, Any] = {
    "name": "google/gemma-3-1b-it",
    "revision": "dcc83ea841ab6100d6b47a070329e1ba4cf78752",
    "place": None,
    "dtype": "bfloat16",
    "quantized_4bit": False,
    "model_class": "Gemma3ForCausalLM",
    "tiny": False,
    "files": {},
}


def share(hits: int, total: int) -> dict[str, Any]:
    return {"hits": hits, "total": total}


MANIFEST: dict[str, Any] = {
    "format": MANIFEST_FORMAT,
    "run": "gsm8k-1b",
    "finished": "2026-11-22T14:00:00Z",
    "task": "gsm8k",
    "format_version": 1,
    "base": BASE,
    "adapter": "",  # set by `write_gates`
    "max_prompt_tokens": 256,
    "max_completion_tokens": 512,
    "max_reply_tokens": 512,
    "backend": "plain",
    "rollout": "graph",
    "seed": 7,
    "steps": 60,
    "best_step": 40,
    "data": {
        "source": "hub",
        "name": "openai/gsm8k",
        "revision": None,
        "place": None,
        "sha256": "9c0e" * 16,
        "train_rows": 7073,
        "validation_rows": 200,
        "holdout_rows": 400,
        "dropped_long": 3,
        "repeated": 0,
    },
    "rewards": {"correctness_reward_func": 2.0, "strict_format_reward_func": 0.5},
    "config": {
        "seed": 7,
        "model": {"name": "google/gemma-3-1b-it"},
        "grpo": {"learning_rate": 5.0e-06},
        "lora": {"r": 16},
    },
    "config_sha256": "ab12" * 16,
    "commit": "1e91dc6",
    "dirty": False,
    "versions": {"torch": "2.13.0", "trl": "1.14.2"},
    "hardware": {"device": "NVIDIA H100", "cores": 16},
    "seconds": 1234.5,
    "holdout": {
        "rows": 400,
        "before": {
            "strict_format": share(40, 400),
            "strict_accuracy": share(31, 400),
            "lenient_accuracy": share(133, 400),
            "worked": share(120, 400),
            "truncated": share(17, 400),
            "no_answer": share(9, 400),
            "mean_tokens": 141.25,
        },
        "after": {
            "strict_format": share(391, 400),
            "strict_accuracy": share(247, 400),
            "lenient_accuracy": share(251, 400),
            "worked": share(398, 400),
            "truncated": share(2, 400),
            "no_answer": share(1, 400),
            "mean_tokens": 118.5,
        },
    },
    "files": {},
}


SEALED = ("manifest.json", "merge.json", "check.json", "ladder.json")


def write_json(path: Path, value) -> None:
    """Write a file of a run; a record of a stage with its seal, as the stage writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, dict) and (path.name in SEALED or path.parent.name == "eval"):
        value = sealed({key: entry for key, entry in value.items() if key != SEAL})
    path.write_text(json.dumps(value), encoding="utf-8")


def safetensors(n_bytes: int, fill: bytes = b"\1") -> bytes:
    """A safetensors file with one tensor of so many bytes."""
    tensor = {"dtype": "U8", "shape": [n_bytes], "data_offsets": [0, n_bytes]}
    header = json.dumps({"weight": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + fill * n_bytes


TOKENS = ["<unk>", "<eos>", "<bos>", "<end_of_turn>"]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message['role'] }}\n"
    "{{ message['content'] }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def gguf(fill: bytes = b"\1", architecture: str = "gemma3", quant: str = "q8_0") -> bytes:
    """A GGUF file with what it says of itself and one tensor of 32 float32 values."""

    def string(text: str) -> bytes:
        return struct.pack("<Q", len(text)) + text.encode()

    def number(value: int) -> bytes:
        return struct.pack("<II", 4, value)

    pairs = {
        "general.architecture": struct.pack("<I", 8) + string(architecture),
        "general.file_type": number(FILE_TYPES[quant]),
        "tokenizer.ggml.tokens": struct.pack("<IIQ", 9, 8, len(TOKENS))
        + b"".join(map(string, TOKENS)),
        "tokenizer.ggml.eos_token_id": number(1),
        "tokenizer.ggml.bos_token_id": number(2),
        "tokenizer.ggml.eot_token_id": number(3),
        "tokenizer.chat_template": struct.pack("<I", 8) + string(TEMPLATE),
    }
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs))
    head += b"".join(string(key) + value for key, value in pairs.items())
    head += string("weight") + struct.pack("<IQIQ", 1, 32, 0, 0)
    return head + b"\0" * (-len(head) % 32) + fill * 128


def write_adapter(folder: Path, base: str | None = BASE["name"], n_bytes: int = 300) -> None:
    write_json(
        folder / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": base}
    )
    (folder / "adapter_model.safetensors").write_bytes(safetensors(n_bytes))
    write_json(folder / "tokenizer.json", {"version": "1.0"})


def write_merged(folder: Path, n_bytes: int = 900) -> None:
    write_json(folder / "config.json", {"architectures": ["Gemma3ForCausalLM"]})
    write_json(folder / "tokenizer.json", {"version": "1.0"})
    (folder / "model.safetensors").write_bytes(safetensors(n_bytes))


def write_gguf(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        named = (quant for quant in FILE_TYPES if name.lower().endswith(f"{quant}.gguf"))
        quant = next(named, "q8_0")
        (folder / name).write_bytes(gguf(bytes([len(name)]), quant=quant))


def modelfile_for(file: Path) -> str:
    """The Modelfile that asks a file of `gguf` as the task does."""
    system = reply.messages("")[0]["content"]
    return modelfile(file.name, read_header(file), (1, 3), system)


def content(run: Path, label: str, base: Path = Path(BASE["name"])) -> str | None:
    """What an evaluation records of a model of the run, whose base is on the Hub."""
    adapter = run / "adapter"
    if label == "merged":
        return model_digest(run / "merged")
    if label == "tuned":
        return digest(model_files(base, adapter))
    return digest(model_files(run / "gguf" / f"{label}.gguf", tokenizer=adapter))


def rung(
    run: Path, label: str, hits: int, against: tuple[str, int] | None, *, size: int
) -> dict[str, Any]:
    accuracy = Share(hits, 100)
    rung: dict[str, Any] = {
        "label": label,
        "content": content(run, label),
        "accuracy": {
            "mean": accuracy.value,
            "low": accuracy.low,
            "high": accuracy.high,
            "hits": hits,
            "n": 100,
        },
        "size_bytes": size,
        "bits_per_weight": 8.5,
        "tokens_per_s": 165.16,
        "peak_mib": 724.9,
        "prompts_as_in_training": True,
        "against": None,
        "difference": None,
        "p": None,
        "passed": None,
    }
    if against is None:
        return rung
    label, before = against
    change = (hits - before) / 100
    gap = {"value": change, "low": change - 0.04, "high": change + 0.04}
    return rung | {
        "against": label,
        "difference": gap,
        "p": 0.625,
        "passed": change >= -TOLERANCE,
    }


TOLERANCE = 0.02


def checked(path: Path, *, passed: bool) -> dict[str, Any]:
    """What the export's check records of a file; where it did not pass, it is too far away."""
    quant = quant_of(read_header(path).metadata["general.file_type"])
    limits, size = limits_for(quant, {}), path.stat().st_size
    kl, same = (3.1e-07 if passed else 0.9), {"identical": 4, "prompts": 4, "share": 1.0}
    near = {"positions": 96, "mean_kl": kl, "worst_kl": kl, "top1": 1.0}
    asked = {"same_text": True, "differing": 0, "prompts": 22}
    turn = {"id": 3, "text": "<end_of_turn>", "type": 3}
    stops = {"ends_generation": {"1": True, "3": True}, "<end_of_turn>": turn}
    share = {"share": limits.greedy_identical}
    return {
        "passed": passed,
        "quant": quant,
        "bytes": size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "gates": {
            "file": gate(True, {"bytes": size, "tensors": 1}, {}),
            "tokens": gate(True, {"mismatches": 0, "prompts": 22}, {"mismatches": 0}),
            "one_bos": gate(True, {"chat": {"1": 22}, "raw": {"1": 22}}, {"bos": 1}),
            "template": gate(True, asked, {"same_text": True, "differing": 0}),
            "stop": gate(True, stops, {"all_end_generation": True}),
            "answers": gate(True, {"seconds": 1.5}, {"seconds": 1800}),
            "distance": gate(passed, near, {"mean_kl": limits.mean_kl, "top1": limits.top1}),
            "greedy": gate(True, same, share),
        },
        "answer": "<answer>\n4\n</answer>",
        "limits": {},
        "modelfile_sha256": hashlib.sha256(modelfile_for(path).encode()).hexdigest(),
    }


def gate(passed: bool, found: dict[str, Any], limit: dict[str, Any]) -> dict[str, Any]:
    return {"passed": passed, "found": found, "limit": limit, "why": ""}


def write_gates(run: Path, *, check: bool = True, ladder: bool = True) -> None:
    """What training, the merge, the export's check and the ladder leave behind."""
    adapter = model_digest(run / "adapter")
    manifest = json.loads((run / "manifest.json").read_text())
    left = [path for path in (run / "curves.png", run / "resolved.json") if path.is_file()]
    left += (run / "holdout").glob("*.json")
    files = {**manifest["files"], **file_hashes(run, left)}
    write_json(run / "manifest.json", manifest | {"adapter": adapter, "files": files})
    ggufs = sorted((run / "gguf").glob("*.gguf"))
    entries = {path.name: checked(path, passed=check) for path in ggufs}
    merged = model_digest(run / "merged")
    model = {"folder": "merged", "fingerprint": merged}
    record = {"format": 1, "passed": check, "task": "gsm8k", "model": model, "files": entries}
    write_json(run / "gguf" / "check.json", record)
    near = {"positions": 96, "mean_kl": 3.4e-14, "worst_kl": 1e-13, "top1": 1.0}
    same = {"greedy_identical": 1.0, "identical_replies": 4, "prompts": 4}
    compared = {
        "format": 1,
        "source": {"adapter": adapter},
        "dtype": "float32",
        "fingerprint": merged,
        "parity": gate(True, near | same, asdict(MERGE_LIMITS["float32"])),
    }
    write_json(run / "merged" / "merge.json", compared)
    after = 63 if ladder else 40
    rungs = [
        rung(run, "tuned", 65, None, size=2_000_000),
        rung(run, "merged", 64, ("tuned", 65), size=917),
        *(rung(run, path.stem, after, ("merged", 64), size=224) for path in ggufs),
    ]
    about = {"format": 1, "task": "gsm8k_xml", "metric": "strict_accuracy", "items": 100}
    verdict = {"tolerance": TOLERANCE, "rungs": rungs, "passed": ladder}
    write_json(run / "ladder.json", about | verdict)


def write_litter(run: Path) -> None:
    """What training leaves beside the artefacts and nobody may publish."""
    for name in (
        "adapter/optimizer.pt",
        "adapter/training_args.bin",
        "adapter/.env",
        "adapter/README.md",
        "merged/scheduler.pt",
        "merged/pytorch_model.bin",
        "checkpoints/checkpoint-40/rng_state.pth",
        "wandb/run-1/output.log",
        "completions/step_40.jsonl",
        "train.log",
        ".env",
    ):
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not for the public")


def write_full_run(run: Path) -> Path:
    """A run with every artefact, gates passed."""
    write_adapter(run / "adapter")
    (run / "curves.png").write_bytes(b"\x89PNG\r\n\x1a\n curves")
    (run / "config.yaml").write_text("seed: 7\n")
    write_json(run / "manifest.json", MANIFEST)
    write_merged(run / "merged")
    write_gguf(run / "gguf", "gsm8k-1b-q8_0.gguf", "gsm8k-1b-q4_k_m.gguf")
    write_gates(run)
    write_litter(run)
    return run
