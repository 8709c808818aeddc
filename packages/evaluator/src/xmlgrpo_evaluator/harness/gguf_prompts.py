"""From lm-eval's requests to the engine's prompts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from xmlgrpo_gguf.model import GgufModel
from xmlgrpo_gguf.requests import Prompt, Sampling
from xmlgrpo_rewards.errors import UserError


@dataclass(frozen=True, slots=True)
class PromptMaker:
    """Makes the prompts of one model.

    Attributes:
        model: tokenizes.
        max_length: longest prompt and reply together, in tokens.
        max_new: the limit of a reply when a request names none.
        seed: of sampled replies.
    """

    model: GgufModel
    max_length: int
    max_new: int
    seed: int

    def prompts(self, requests: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Prompt]:
        """One prompt a request, in the same order.

        Args:
            requests: text and lm-eval's generation options of each.

        Raises:
            UserError: a text leaves no room for a reply.
        """
        seen: Counter[str] = Counter()
        prompts = []
        for text, options in requests:
            prompts.append(self._prompt(text, options, nth=seen[text]))
            seen[text] += 1
        return prompts

    def _prompt(self, text: str, options: Mapping[str, Any], *, nth: int) -> Prompt:
        tokens = self.model.tokenize(text)
        room = self.max_length - len(tokens)
        if room < 1:
            raise UserError(
                f"a prompt of {len(tokens)} tokens leaves no room for a reply in the model's "
                f"{self.max_length}; leave the item out or use fewer shots. It begins {text[:80]!r}"
            )
        until = options.get("until") or []
        stops = [until] if isinstance(until, str) else until
        limit = options.get("max_gen_toks") or options.get("max_new_tokens") or self.max_new
        return Prompt(
            tokens,
            max_new=min(int(limit), room),
            stops=tuple(stop.encode() for stop in stops if stop),
            sampling=self._sampling(text, options, nth),
        )

    def _sampling(self, text: str, options: Mapping[str, Any], nth: int) -> Sampling:
        temperature = float(options.get("temperature") or 0.0)
        if not options.get("do_sample", temperature > 0):
            return Sampling()
        # of the prompt and its repetition, not of the place in the queue: a resumed run, or one
        # with another batch size, draws the same numbers
        seed = options.get("seed", crc32(f"{self.seed}\0{nth}\0{text}".encode()))
        return Sampling(
            temperature=temperature or 1.0,
            top_k=int(options.get("top_k") or 0),
            top_p=float(options.get("top_p") or 1.0),
            min_p=float(options.get("min_p") or 0.0),
            seed=int(seed),
        )
