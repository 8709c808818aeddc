"""Any lm-eval model, with the journal in front of it.

The model is asked only what the journal does not hold; every finished reply goes to the journal
and to the screen at once.  lm-eval's own response cache does not do: it leaves sampled replies
out, does not know the model, and forgets lengths.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from xmlgrpo_evaluator.journal import CountedReply, Journal, Key, request_digest
from xmlgrpo_evaluator.progress import Screen
from xmlgrpo_run.prompt import rendered, tokenizer_prompt, write_prompt


class ResumableLM(LM):  # type: ignore[misc]  # lm-eval is untyped
    """An lm-eval model in front of another one; one process, so rank and devices are lm-eval's own.

    Args:
        screen: shows each reply, the ones from the journal first.
        check: called with all requests before the first is asked.
        seeds_requests: whether `inner` takes a seed with each request; without that, the global
            generator is seeded anew when an evaluation is continued.
    """

    def __init__(
        self,
        inner: LM,
        journal: Journal,
        screen: Screen,
        *,
        check: Callable[[Sequence[Instance]], None],
        seed: int,
        seeds_requests: bool,
    ) -> None:
        super().__init__()
        self.inner, self.journal, self._screen, self._check = inner, journal, screen, check
        self._seed, self._seeds_requests = seed, seeds_requests
        self._waiting: dict[str, list[tuple[Key, Instance]]] = {}

    def generate_until(self, requests: list[Instance]) -> list[CountedReply]:
        """Answer the requests that the journal does not hold; return the replies of all.

        Raises:
            RuntimeError: the model left requests without a reply.
        """
        self._check(requests)
        self._screen.begin(requests, lambda: getattr(self.inner, "unreported", 0))
        keys = _keys(requests)
        rest: list[Instance] = []
        self._waiting = defaultdict(list)
        for key, request in zip(keys, requests, strict=True):
            reply = self.journal.get(key)
            if reply is not None:
                self._screen.reply(request, reply, new=False)
                continue
            asked = self._with_seed(request, key)
            rest.append(asked)
            self._waiting[request_digest(*asked.args)].append((key, request))
        if rest:
            self._seed_anew()
            self.inner.set_cache_hook(Hook("generate_until", self._answered))
            self.inner.generate_until(rest, disable_tqdm=True)
        replies = [self.journal.get(key) for key in keys]
        answered = [reply for reply in replies if reply is not None]
        if len(answered) < len(keys):  # lm-eval would pair the others with the wrong items
            raise RuntimeError(f"the model gave {len(answered)} replies to {len(keys)} requests")
        return answered

    def _with_seed(self, request: Instance, key: Key) -> Instance:
        prompt, options = request.args
        if not (self._seeds_requests and options.get("do_sample")):
            return request
        seed = crc32(f"{self._seed}\0{key[0]}\0{key[1]}".encode())
        return replace(request, arguments=(prompt, {**options, "seed": seed}))

    def _seed_anew(self) -> None:
        if self.journal.resumed and not self._seeds_requests:
            import torch

            # the same seed as at the start would repeat the first samples of the evaluation
            torch.manual_seed(self._seed + self.journal.resumed)

    def _answered(self, arguments: Any, reply: str) -> None:
        prompt, options = arguments
        key, request = self._waiting[request_digest(prompt, options)].pop(0)
        counted = reply if isinstance(reply, CountedReply) else self._count(reply, options)
        self.journal.add(key, counted)
        self._screen.reply(request, counted, new=True)

    def _count(self, reply: str, options: Any) -> CountedReply:
        """Count a plain reply by tokenizing it again: close, not exact."""
        tokens = len(self.inner.tok_encode(reply, add_special_tokens=False))
        limit = options.get("max_gen_toks", 0)
        return CountedReply(reply, tokens=tokens, truncated=0 < limit <= tokens)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Score continuations; quick, so not kept in the journal."""
        return list(self._scoring("loglikelihood", requests)(requests))

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Score texts; quick, so not kept in the journal."""
        return list(self._scoring("loglikelihood_rolling", requests)(requests))

    def _scoring(self, kind: str, requests: Sequence[Instance]) -> Callable[[Any], Any]:
        self._screen.begin(requests)
        self.inner.set_cache_hook(Hook(kind, lambda *_: self._screen.scored()))
        scoring: Callable[[Any], Any] = getattr(self.inner, kind)
        return scoring

    # of prompts the inner model knows

    def apply_chat_template(
        self,
        chat_history: list[dict[str, str]],
        add_generation_prompt: bool = True,  # noqa: FBT001, FBT002  # lm-eval's signature
    ) -> str:
        """Render a chat with the model's template, as training does.

        Without a generation prompt the last message is the beginning of the reply.

        Raises:
            UserError: there is no template, or it cannot write what the chat says.
        """
        if not add_generation_prompt:
            render = self.inner.apply_chat_template
            return str(rendered(render, chat_history, add_generation_prompt=False))
        tokenizer = getattr(self.inner, "tokenizer", None)  # lm-eval drops what is refused
        if tokenizer is None:
            return write_prompt(self.inner.apply_chat_template, chat_history).text
        options = getattr(self.inner, "chat_template_args", {})
        return tokenizer_prompt(tokenizer, chat_history, **options).text

    def chat_template(self, chat_template: bool | str = False) -> str | None:  # noqa: FBT001, FBT002  # lm-eval's signature
        """The model's chat template."""
        template: str | None = self.inner.chat_template(chat_template)
        return template

    @property
    def tokenizer_name(self) -> str:
        """The model's."""
        return str(self.inner.tokenizer_name)


def _keys(requests: Sequence[Instance]) -> list[Key]:
    seen: Counter[str] = Counter()
    keys = []
    for request in requests:
        digest = request_digest(*request.args)
        keys.append((digest, seen[digest]))
        seen[digest] += 1
    return keys


class Hook:
    """lm-eval's cache hook: every model calls it as soon as a reply or a score is there.

    Of the requests of one kind it hands arguments and result on.
    """

    def __init__(self, kind: str, on_result: Callable[[Any, Any], None]) -> None:
        self._kind, self._on_result = kind, on_result

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        """Take note of one result; lm-eval's name and signature."""
        if attr == self._kind:
            self._on_result(req, res)
