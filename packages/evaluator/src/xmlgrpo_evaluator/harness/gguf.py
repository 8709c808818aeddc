"""A GGUF as an lm-eval model: `llama-cpp`, run by llama.cpp in this process.

Every task of lm-eval runs on it, ours and the stock ones.  The chat template is the file's own,
a prompt gets exactly one BOS and is never cut, and many requests are decoded at once (engine.py).

Importing this module registers the name.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import lm_eval.models  # noqa: F401  # before ours: lm-eval fills its registry only while empty
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from tqdm import tqdm  # type: ignore[import-untyped]  # ships no types

from xmlgrpo_evaluator.journal import CountedReply
from xmlgrpo_gguf.engine import GgufSampling, Prompt, Written, engine_for
from xmlgrpo_gguf.model import GgufModel
from xmlgrpo_gguf.probe import probe
from xmlgrpo_gguf.scoring import score_pairs
from xmlgrpo_gguf.template import ChatTemplate
from xmlgrpo_gguf.threads import decoding_threads
from xmlgrpo_rewards.errors import UserError

logger = logging.getLogger(__name__)

DEFAULT_SLOTS = 32
MAX_NEW_TOKENS_DEFAULT = 1024
"""When a task names no limit.  lm-eval's own 256 cuts worked solutions short."""


@register_model("llama-cpp")
class LlamaCppLM(TemplateLM):  # type: ignore[misc]  # lm-eval is untyped
    """lm-eval's view of a GGUF file.

    Args:
        batch_size: sequences decoded at once; `auto` is 32.
        threads: CPU threads; `auto` takes what the model's size and the free cores are worth.
        max_length: longest prompt and reply together, in tokens; the model's own limit if None.
        max_gen_toks: the limit of a reply when the task names none.
        seed: of sampled replies; two samples of one prompt differ, two runs do not.
        gpu_layers: layers on the GPU, where llama.cpp was built for one; -1 for all.
        max_batch_size: for lm-eval's sake; not used.
        device: for lm-eval's sake; not used, llama.cpp chooses.
    """

    def __init__(  # noqa: PLR0917  # lm-eval calls it by name
        self,
        pretrained: str | Path,
        batch_size: int | str | None = None,
        threads: int | str = "auto",
        max_length: int | None = None,
        max_gen_toks: int = MAX_NEW_TOKENS_DEFAULT,
        seed: int = 0,
        gpu_layers: int = -1,
        max_batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        probe(Path(pretrained))
        self.gguf = GgufModel(Path(pretrained), gpu_layers=int(gpu_layers))
        self.template = ChatTemplate(self.gguf)
        self.slots = _slots(batch_size)
        self.max_gen_toks, self.seed = int(max_gen_toks), int(seed)
        self.max_length = int(max_length or self.gguf.trained_context)
        self.threads = (
            decoding_threads(self.gguf.parameters, self.slots)
            if threads == "auto"
            else int(threads)
        )

    @property
    def batch_size(self) -> int:
        """Sequences decoded at once."""
        return self.slots

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval writes beside the results."""
        return {
            "model_num_parameters": self.gguf.parameters,
            "model_description": self.gguf.description,
            "bits_per_weight": round(self.gguf.bits_per_weight, 3),
            "slots": self.slots,
            "threads": self.threads,
        }

    # prompts

    @property
    def eot_token_id(self) -> int:
        """The token that ends a sequence."""
        return self.gguf.eos

    @property
    def prefix_token_id(self) -> int:
        """What an empty context is scored after."""
        return self.gguf.bos if self.gguf.bos >= 0 else self.gguf.eos

    @property
    def tokenizer_name(self) -> str:
        """Names the tokenizer in lm-eval's cache of prompts."""
        return f"gguf-{self.gguf.path.name}-{crc32((self.gguf.chat_template or '').encode()):08x}"

    def chat_template(self, chat_template: bool | str = False) -> str | None:  # noqa: FBT001, FBT002  # lm-eval's signature
        """The file's chat template, for lm-eval's records."""
        return self.gguf.chat_template if chat_template else ""

    def apply_chat_template(
        self,
        chat_history: list[dict[str, str]],
        add_generation_prompt: bool = True,  # noqa: FBT001, FBT002  # lm-eval's signature
    ) -> str:
        """Render a chat with the file's template, in a child process.

        Raises:
            UserError: the file has no template, or one that does not end.
        """
        return self.template.render(chat_history, add_generation_prompt=add_generation_prompt)

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,  # noqa: FBT001  # lm-eval's signature
        **_kwargs: Any,
    ) -> list[int]:
        """Token ids; a text that begins with the BOS does not get a second one."""
        return self.gguf.tokenize(string, add_bos=add_special_tokens)

    # requests

    def generate_until(
        self,
        requests: list[Instance],
        disable_tqdm: bool = False,  # noqa: FBT001, FBT002  # lm-eval's signature
    ) -> list[CountedReply]:
        """Write the replies.

        Raises:
            UserError: a prompt leaves no room for a reply.
        """
        arguments = [request.args for request in requests]
        prompts = self._prompts(arguments)
        # the longest first: the run then ends with short ones, and slots stay full to the end
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i].tokens))
        replies: dict[int, CountedReply] = {}
        bar = tqdm(total=len(prompts), disable=disable_tqdm, desc="generate_until")

        def done(place: int, written: Written) -> None:
            index = order[place]
            reply = CountedReply(
                written.text, tokens=written.tokens, truncated=written.finish == "length"
            )
            replies[index] = reply
            self.cache_hook.add_partial("generate_until", arguments[index], reply)
            bar.update()

        ordered = [prompts[index] for index in order]
        with engine_for(self.gguf, ordered, slots=self.slots, threads=self.threads) as engine:
            engine.write(ordered, done)
        bar.close()
        return [replies[index] for index in range(len(prompts))]

    def _prompts(self, requests: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Prompt]:
        """One prompt for each text with lm-eval's generation options."""
        seen: Counter[str] = Counter()
        prompts = []
        for text, options in requests:
            tokens = self.gguf.tokenize(text)
            room = self.max_length - len(tokens)
            if room < 1:
                raise UserError(
                    f"a prompt of {len(tokens)} tokens leaves no room for a reply in the model's "
                    f"{self.max_length}; leave the item out or use fewer shots. It begins "
                    f"{text[:80]!r}"
                )
            until = options.get("until") or []
            limit = options.get("max_gen_toks") or options.get("max_new_tokens")
            # of the prompt and its repetition, not of the place in the queue: a resumed run, or one
            # with another batch size, draws the same numbers
            seed = crc32(f"{self.seed}\0{seen[text]}\0{text}".encode())
            seen[text] += 1
            prompts.append(
                Prompt(
                    tokens,
                    max_new=min(int(limit or self.max_gen_toks), room),
                    stops=tuple(
                        stop.encode()
                        for stop in ([until] if isinstance(until, str) else until)
                        if stop
                    ),
                    sampling=_sampling(options, seed),
                )
            )
        return prompts

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str] | None, list[int], list[int]]],
        disable_tqdm: bool = False,  # noqa: FBT001, FBT002  # lm-eval's signature
        **_kwargs: Any,
    ) -> list[tuple[float, bool]]:
        pairs = [self._fit(context, continuation) for _, context, continuation in requests]
        scores: dict[int, tuple[float, bool]] = {}
        bar = tqdm(total=len(requests), disable=disable_tqdm, desc="loglikelihood")
        for index, score in score_pairs(self.gguf, pairs, slots=self.slots, threads=self.threads):
            scores[index] = (score.logprob, score.is_greedy)
            if requests[index][0] is not None:
                self.cache_hook.add_partial("loglikelihood", requests[index][0], scores[index])
            bar.update()
        bar.close()
        return [scores[index] for index in range(len(requests))]

    def _fit(self, context: list[int], continuation: list[int]) -> tuple[list[int], list[int]]:
        """Cut a too long context from the left, which is lm-eval's rule for scoring."""
        over = len(context) + len(continuation) - self.max_length
        if over <= 0:
            return context, continuation
        logger.warning("a context of %d tokens was cut by %d to fit", len(context), over)
        if over >= len(context):
            raise UserError(
                f"a continuation of {len(continuation)} tokens does not fit the model's "
                f"{self.max_length}; leave the item out"
            )
        return context[over:], continuation

    def loglikelihood_rolling(
        self,
        requests: list[Instance],
        disable_tqdm: bool = False,  # noqa: FBT001, FBT002  # lm-eval's signature
    ) -> list[float]:
        """The log-probability of whole texts, in windows of the model's length."""
        windows: list[tuple[None, list[int], list[int]]] = []
        owners: list[int] = []
        for owner, request in enumerate(requests):
            rolling = utils.get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0], add_special_tokens=False),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length - 1,
                context_len=1,
            )
            for window in rolling:
                context, continuation = utils.make_disjoint_window(window)
                windows.append((None, list(context), list(continuation)))
                owners.append(owner)
        totals = [0.0] * len(requests)
        scored = self._loglikelihood_tokens(windows, disable_tqdm=disable_tqdm)
        for owner, (logprob, _) in zip(owners, scored, strict=True):
            totals[owner] += logprob
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals


def _sampling(options: Mapping[str, Any], seed: int) -> GgufSampling:
    temperature = float(options.get("temperature") or 0.0)
    if not options.get("do_sample", temperature > 0):
        return GgufSampling()
    return GgufSampling(
        temperature=temperature or 1.0,
        top_k=int(options.get("top_k") or 0),
        top_p=float(options.get("top_p") or 1.0),
        min_p=float(options.get("min_p") or 0.0),
        seed=int(options.get("seed", seed)),
    )


def _slots(batch_size: int | str | None) -> int:
    if batch_size is None or str(batch_size).startswith("auto"):
        return DEFAULT_SLOTS
    if not str(batch_size).isdigit() or int(batch_size) < 1:
        raise UserError(
            f"batch size: expected a whole number above 0 or 'auto', got {batch_size!r}"
        )
    return int(batch_size)
