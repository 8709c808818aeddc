"""Run folders as the other stages leave them, with files of the real formats and no model."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from xmlgrpo_run.digests import digest, model_digest, model_files
from xmlgrpo_run.files import SEAL, write_sealed
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


def write_json(path: Path, value) -> None:
    """Write a file of a run; a manifest with its seal, as training writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name == "manifest.json":
        write_sealed(path, {key: entry for key, entry in value.items() if key != SEAL})
    else:
        path.write_text(json.dumps(value), encoding="utf-8")


def safetensors(n_bytes: int, fill: bytes = b"\1") -> bytes:
    """A safetensors file with one tensor of so many bytes."""
    tensor = {"dtype": "U8", "shape": [n_bytes], "data_offsets": [0, n_bytes]}
    header = json.dumps({"weight": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + fill * n_bytes


def gguf(fill: bytes = b"\1", architecture: str = "gemma3") -> bytes:
    """A GGUF file with its architecture and one tensor of 32 float32 values."""

    def string(text: str) -> bytes:
        return struct.pack("<Q", len(text)) + text.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    head += string("general.architecture") + struct.pack("<I", 8) + string(architecture)
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
        (folder / name).write_bytes(gguf(bytes([len(name)])))


def content(run: Path, label: str, base: Path = Path(BASE["name"])) -> str | None:
    """What an evaluation records of a model of the run, whose base is on the Hub."""
    adapter = run / "adapter"
    if label == "merged":
        return model_digest(run / "merged")
    if label == "tuned":
        return digest(model_files(base, adapter))
    return digest(model_files(run / "gguf" / f"{label}.gguf", tokenizer=adapter))


def rung(
    run: Path, label: str, hits: int, against: str | None, passed: bool | None, *, size: int
) -> dict[str, Any]:
    return {
        "label": label,
        "content": content(run, label),
        "accuracy": {"mean": hits / 100, "low": 0.0, "high": 1.0, "hits": hits, "n": 100},
        "size_bytes": size,
        "bits_per_weight": 8.5,
        "tokens_per_s": 165.16,
        "peak_mib": 724.9,
        "against": against,
        "difference": against and {"value": -0.01, "low": -0.05, "high": 0.03},
        "p": None if against is None else 0.625,
        "passed": passed,
    }


def gate(passed: bool, found: dict[str, Any], limit: dict[str, Any]) -> dict[str, Any]:
    return {"passed": passed, "found": found, "limit": limit, "why": ""}


def write_gates(run: Path, *, check: bool = True, ladder: bool = True) -> None:
    """What training, the merge, the export's check and the ladder leave behind."""
    adapter = model_digest(run / "adapter")
    manifest = json.loads((run / "manifest.json").read_text())
    write_json(run / "manifest.json", manifest | {"adapter": adapter})
    ggufs = sorted((run / "gguf").glob("*.gguf"))
    files = {
        path.name: {
            "passed": check,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "gates": {
                "one_bos": gate(True, {"chat": {"1": 22}}, {"bos": 1}),
                "distance": gate(check, {"mean_kl": 3.1e-07, "top1": 1.0}, {"mean_kl": 0.002}),
            },
        }
        for path in ggufs
    }
    merged = model_digest(run / "merged")
    model = {"folder": "merged", "fingerprint": merged}
    record = {"format": 1, "passed": check, "model": model, "files": files}
    write_json(run / "gguf" / "check.json", record)
    compared = {
        "format": 1,
        "source": {"adapter": adapter},
        "fingerprint": merged,
        "parity": gate(True, {"mean_kl": 3.4e-14, "top1": 1.0}, {"mean_kl": 1e-05, "top1": 0.995}),
    }
    write_json(run / "merged" / "merge.json", compared)
    rungs = [
        rung(run, "tuned", 65, None, None, size=2_000_000),
        rung(run, "merged", 64, "tuned", True, size=917),
        *(rung(run, path.stem, 63, "merged", ladder, size=224) for path in ggufs),
    ]
    write_json(run / "ladder.json", {"format": 1, "passed": ladder, "rungs": rungs})


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
