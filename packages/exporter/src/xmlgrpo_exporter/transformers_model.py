"""A model as transformers runs it: what was trained, and what everything else is compared with.

Always float32 arithmetic, whatever the weights are stored in: rounding here would be counted as
distance of the other side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from xmlgrpo_exporter.quants import CONVERTER_TYPES
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.prose import one_line
from xmlgrpo_rollout.stop_tokens import stop_ids
from xmlgrpo_run.digests import digest, hash_ahead, model_files
from xmlgrpo_run.files import check_small_files
from xmlgrpo_run.prompt import Messages, Prompt, tokenizer_prompt
from xmlgrpo_run.safetensors_header import tensor_shapes
from xmlgrpo_run.screen.console import quiet_libraries
from xmlgrpo_run.screen.loading import loading_model, reading_libraries
from xmlgrpo_run.screen.progress import Stage

ERROR_COLUMNS = 300  # of what a library says
LIBRARY_MODULES = 4100  # about: what torch, transformers and peft consist of, as locked


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A model folder, and the hash over its weights, configuration and tokenizer, taken once."""

    folder: Path
    fingerprint: str


def hash_model(folder: Path, console: Console) -> SourceModel:
    """Hash a model folder behind a bar."""
    files = model_files(folder)
    hash_ahead(files, console, "hashing the model")
    return SourceModel(folder, digest(files) or "")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A transformers (or peft) model, its tokenizer, and the ids that end a reply."""

    model: Any
    tokenizer: Any
    stop_ids: tuple[int, ...]

    def prompts(self, chats: Sequence[Messages]) -> list[Prompt]:
        """Chats as the template can write them; it brings its own BOS."""
        return [tokenizer_prompt(self.tokenizer, chat) for chat in chats]

    def with_bos(self, texts: Sequence[str]) -> list[str]:
        """Plain texts for a model that continues them, with BOS where its tokenizer puts one."""
        bos = self.tokenizer.bos_token_id
        adds_bos = bos is not None and self.tokenizer("a")["input_ids"][:1] == [bos]
        return [(self.tokenizer.bos_token if adds_bos else "") + text for text in texts]

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of rendered texts, without special tokens added: as in training."""
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return ids

    def greedy(
        self, prompts: Sequence[list[int]], new_tokens: int, console: Console, words: str
    ) -> list[list[int]]:
        """The greedy reply to each prompt: at most `new_tokens` ids, the stop id included.

        One prompt at a time, since padding changes rounding.  A bar says in `words` what for.
        """
        from xmlgrpo_rollout.engine import Sampling
        from xmlgrpo_rollout.generate import GenerateEngine

        engine = GenerateEngine(self.model, self.stop_ids, self.stop_ids[0])
        sampling = Sampling(new_tokens, temperature=0)
        with Stage(console, words, unit="replies") as stage:
            return [engine([prompt], 1, sampling)[0].tokens for prompt in stage.through(prompts)]

    def logits(self, prompt: list[int], reply: list[int]) -> Any:
        """Logits at the positions that predict the reply: float32, (len(reply), vocabulary)."""
        import torch

        ids = torch.tensor([prompt + reply], device=self.model.device)
        with torch.inference_mode():
            logits = self.model(input_ids=ids, logits_to_keep=len(reply) + 1).logits
        return logits[0, :-1].float().cpu().numpy()


def load_libraries(console: Console, *needed: str) -> None:
    """Import what takes long to import, without its own lines and bars."""
    quiet_libraries()
    with reading_libraries(console, LIBRARY_MODULES):
        for name in ("transformers.models.auto.modeling_auto", *needed):
            import_module(name)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder."""
    from transformers import AutoTokenizer

    check_small_files(folder)
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder}: no tokenizer that can be read ({one_line(str(error), ERROR_COLUMNS)})"
        ) from None


def load_folder(folder: Path, device: str, console: Console) -> LoadedModel:
    """Load a model folder with its tokenizer, in float32."""
    with loading_model(console, str(folder), None):
        tokenizer = load_tokenizer(folder)
        model = load_weights(str(folder)).to(choose_device(device)).eval()
    return LoadedModel(model, tokenizer, tuple(stop_ids(model, tokenizer)))


def load_weights(name: str, revision: str | None = None, model_class: str | None = None) -> Any:
    """Load a causal language model in float32, safetensors only.

    Args:
        name: a folder or a Hub id.
        model_class: the class of transformers it was trained as; the configuration's own when None.

    Raises:
        UserError: missing, incomplete, quantized, or of a class that transformers has not.
    """
    import torch
    import transformers

    from xmlgrpo_rollout.attention_guard import guard_transformers

    guard_transformers()
    check_small_files(Path(name))  # of an id on the Hub there are none here
    auto: Any = transformers.AutoModelForCausalLM
    loader = getattr(transformers, model_class, None) if model_class else auto
    if loader is None:
        raise UserError(
            f"transformers {transformers.__version__} has no class {model_class!r}, which the run "
            "was trained as; install the version in the run's manifest.json"
        )
    try:
        return loader.from_pretrained(
            name, revision=revision, dtype=torch.float32, use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"cannot load the model {name!r}: {one_line(str(error), ERROR_COLUMNS)}"
        ) from None


def choose_device(asked: str) -> str:
    """`auto` is the GPU when there is one, else the CPU."""
    if asked != "auto":
        return asked
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def stored_weights(folder: Path) -> tuple[int, str]:
    """Number of weights, and the GGUF type that holds them without loss, by the files' headers.

    Raises:
        UserError: a header cannot be read, or there is no weight in any.
    """
    from huggingface_hub import get_local_safetensors_metadata
    from huggingface_hub.errors import NotASafetensorsRepoError, SafetensorsParsingError

    for path in folder.glob("*.safetensors"):
        tensor_shapes(path)
    try:
        counts = get_local_safetensors_metadata(folder).parameter_count
    except (OSError, ValueError, NotASafetensorsRepoError, SafetensorsParsingError) as error:
        raise UserError(
            f"cannot read the weights in {folder}: {one_line(str(error), ERROR_COLUMNS)}"
        ) from None
    if not sum(counts.values()):
        raise UserError(f"{folder}: there is no weight in its .safetensors files")
    dtype = max(counts, key=lambda dtype: counts[dtype]).lower()  # that of most weights
    return sum(counts.values()), dtype if dtype in CONVERTER_TYPES else "f32"
