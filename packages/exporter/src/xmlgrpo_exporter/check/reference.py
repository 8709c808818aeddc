"""The model that was trained, as transformers runs it: what everything else is compared with.

Always float32 arithmetic, whatever the weights are stored in: rounding inside the reference would
be counted as distance of the other side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.stop_tokens import stop_ids

Messages = list[dict[str, str]]
OnProgress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Reference:
    """A loaded model with its tokenizer.

    Attributes:
        model: a transformers (or peft) model in evaluation mode.
        tokenizer: its tokenizer, with a chat template.
        stop_ids: the ids that end a reply.
    """

    model: Any
    tokenizer: Any
    stop_ids: tuple[int, ...]

    def encode(self, conversations: Sequence[Messages]) -> tuple[list[str], list[list[int]]]:
        """Texts and token ids of conversations that are ready for the model's turn.

        The template writes the text, which is tokenized without adding special tokens, as in
        training: the template brings its own BOS.
        """
        return encode(self.tokenizer, conversations)

    def encode_plain(self, texts: Sequence[str]) -> tuple[list[str], list[list[int]]]:
        """The same for a model without a chat template, which continues a text as it is.

        BOS stands in front where the tokenizer puts it there itself.
        """
        bos = self.tokenizer.bos_token_id
        brings_bos = bos is not None and self.tokenizer("a")["input_ids"][:1] == [bos]
        whole = [(self.tokenizer.bos_token if brings_bos else "") + text for text in texts]
        return whole, self.tokenizer(whole, add_special_tokens=False)["input_ids"]

    @property
    def vocabulary(self) -> int:
        """Length of a row of logits."""
        length: int = self.model.config.get_text_config().vocab_size
        return length

    def greedy(
        self,
        prompts: Sequence[list[int]],
        new_tokens: int,
        on_progress: OnProgress = lambda _done: None,
    ) -> list[list[int]]:
        """The greedy reply to each prompt: at most `new_tokens` ids, the stop id included.

        Args:
            prompts: token ids.
            new_tokens: longest reply.
            on_progress: told after each token how many replies are done; the last one in part.
        """
        import torch

        replies = []
        for done, prompt in enumerate(prompts):
            ids = torch.tensor([prompt], device=self.model.device)
            with torch.inference_mode():
                out = self.model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=new_tokens,
                    do_sample=False,
                    temperature=None,
                    top_k=None,
                    top_p=None,
                    eos_token_id=list(self.stop_ids),
                    pad_token_id=self.stop_ids[0],
                    streamer=_TokenCount(on_progress, done, new_tokens),
                )
            replies.append(out[0, len(prompt) :].tolist())
        return replies

    def logits(self, prompt: list[int], reply: list[int]) -> Any:
        """Logits at the positions that predict the reply: float32, (len(reply), vocabulary)."""
        import torch

        ids = torch.tensor([prompt + reply], device=self.model.device)
        with torch.inference_mode():
            logits = self.model(input_ids=ids, logits_to_keep=len(reply) + 1).logits
        return logits[0, :-1].float().cpu().numpy()


class _TokenCount:
    """Counts the tokens that `generate` hands to its streamer, the prompt first.

    Args:
        on_progress: told how many replies are done.
        done: how many were before this one.
        new_tokens: tokens of a whole one.
    """

    def __init__(self, on_progress: OnProgress, done: int, new_tokens: int) -> None:
        self._on_progress, self._done, self._new_tokens = on_progress, done, new_tokens
        self._count = -1

    def put(self, _ids: Any) -> None:
        """One more token; the first call brings the prompt."""
        self._count += 1
        self._on_progress(self._done + self._count / self._new_tokens)

    def end(self) -> None:
        """Nothing is kept that would have to be finished."""


def encode(tokenizer: Any, conversations: Sequence[Messages]) -> tuple[list[str], list[list[int]]]:
    """Texts and token ids of conversations that are ready for the model's turn.

    Raises:
        UserError: the tokenizer has no chat template, or one that refuses these messages.
    """
    from jinja2 import TemplateError

    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path!r} has no chat template; give a model "
            "folder that has chat_template.jinja (or chat_template in tokenizer_config.json)"
        )
    try:
        texts = [
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            for messages in conversations
        ]
    except TemplateError as error:
        raise UserError(
            f"the chat template of {tokenizer.name_or_path!r} refuses a system and a user message "
            f"({_line(error)}); it cannot be asked as training asks"
        ) from None
    return texts, tokenizer(texts, add_special_tokens=False)["input_ids"]


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder.

    Raises:
        UserError: there is none that transformers reads.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: no tokenizer that can be read ({_line(error)})") from None


def load_reference(folder: Path, device: str) -> Reference:
    """Load a model folder in float32.

    Raises:
        UserError: the folder is not a whole model.
    """
    tokenizer = load_tokenizer(folder)
    model = load_model(str(folder), revision=None, model_class=None)
    return Reference(model.to(device).eval(), tokenizer, tuple(stop_ids(model, tokenizer)))


def load_model(name: str, *, revision: str | None, model_class: str | None) -> Any:
    """Load a causal language model in float32, safetensors only.

    Args:
        name: a folder or a Hub id.
        revision: commit, tag or branch on the Hub.
        model_class: the class of transformers it was trained as; the configuration's own when None.

    Raises:
        UserError: missing, incomplete, quantized, or of a class that transformers has not.
    """
    import torch
    import transformers

    from xmlgrpo_rollout.attention import guard_transformers

    guard_transformers()
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
        raise UserError(f"cannot load the model {name!r}: {_line(error)}") from None


def choose_device(asked: str) -> str:
    """`auto` is the GPU when there is one, else the CPU."""
    if asked != "auto":
        return asked
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
