"""A GGUF tried out in a process of its own, before it is opened in this one.

The file may come from anybody.  llama.cpp ends the process at a header that contradicts itself
(`GGML_ASSERT`), and a chat template is a program: it may loop for ever or fill the memory.  In a
child with limits on time and memory each of these is an error of one line.  A template that behaves
here may still do otherwise over another chat, so `gguf_template` has a child for all of them.

    python -m xmlgrpo_gguf.probe FILE CPU_SECONDS   # exit code 0, or the reason
"""

import os
import re
import resource
import subprocess
import sys
import time
from math import ceil
from pathlib import Path

from xmlgrpo_rewards.errors import UserError, run_command

_CPU_S = 30
_CPU_S_PER_GIB = 2  # mapping the weights
_TIMEOUT_S = 600  # of wall time: a file of many gigabytes on a slow disk
_SPARE_BYTES = 4 << 30  # beside the weights: libraries, vocabulary, what a template writes
# Tokens must not reach a child that reads foreign files; a GPU build of llama.cpp reserves address
# space for the devices that it sees, more than any sound limit.
_DROPPED = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")
_NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", "GGML_VK_VISIBLE_DEVICES": ""}
_CHAT = [{"role": "system", "content": "Answer."}, {"role": "user", "content": "1+1?"}]


def probe(path: Path, cpu_s: int = _CPU_S) -> None:
    """Load a file and render its chat template in a child process.

    Args:
        path: the file.
        cpu_s: CPU time that both may take, beside what the size of the weights asks for.

    Raises:
        UserError: it cannot be loaded, its template cannot be rendered, or one of them takes
            without end.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "xmlgrpo_gguf.probe", str(path), str(cpu_s)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_TIMEOUT_S,
            check=False,
            env=foreign_environment(),
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{path} could not be opened in {_TIMEOUT_S} s; is it damaged?") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(_reason(path, done.returncode, said[-1] if said else "it says nothing"))


def foreign_environment() -> dict[str, str]:
    """Environment of a child that reads foreign files: no tokens, no GPU."""
    inherited = {key: value for key, value in os.environ.items() if key not in _DROPPED}
    # GGML_NO_BACKTRACE: llama.cpp would start a debugger to print where it failed
    return inherited | _NO_GPU | {"GGML_NO_BACKTRACE": "1"}


def limit_memory(spare_bytes: int) -> None:
    """Let this process map no more than that beside what it has mapped."""
    limit = spare_bytes + _mapped_bytes()
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _reason(path: Path, code: int, said: str) -> str:
    if code > 0:
        return said.removeprefix("error: ")
    if -code in (9, 24):  # SIGKILL by the kernel for memory or time, SIGXCPU
        return f"{path} takes without end: its header or its chat template is damaged or hostile"
    where = re.sub(r"^\S*/", "", said)  # without the folder that llama.cpp was built in
    return f"llama.cpp breaks down over {path} ({where}): the file is damaged or hostile"


def _try(path: Path, cpu_s: int) -> None:
    from xmlgrpo_gguf.model import open_gguf, require_llama_cpp
    from xmlgrpo_gguf.template import render_here, template_of

    # the limits come after the imports: what libraries map and compute is not the file's doing
    require_llama_cpp()
    size = path.stat().st_size if path.is_file() else 0
    spent_s = time.process_time()
    allowed_s = ceil(spent_s + cpu_s + _CPU_S_PER_GIB * size / 2**30)
    resource.setrlimit(resource.RLIMIT_CPU, (allowed_s, allowed_s + 1))
    limit_memory(2 * size + _SPARE_BYTES)
    with open_gguf(path, gpu_layers=0) as model:
        if not model.chat_template:
            return
        try:
            render_here(template_of(model), _CHAT, add_generation_prompt=True)
        except Exception as error:  # a template may raise whatever it likes
            reason = f"{type(error).__name__}: {error}"[:300]
            raise UserError(f"the chat template of {path} cannot be rendered ({reason})") from error


def _mapped_bytes() -> int:
    """Address space in use; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return 0
    return pages * resource.getpagesize()


if __name__ == "__main__":
    run_command(lambda: _try(Path(sys.argv[1]), int(sys.argv[2])))
