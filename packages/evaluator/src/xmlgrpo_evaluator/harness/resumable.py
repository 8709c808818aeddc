"""Any lm-eval model, with a journal and a listener in front of it.

The model is asked only what the journal does not hold; every finished reply goes to the journal
and to the listener at once.  lm-eval's own response cache does not do: it leaves sampled replies
out, does not know the model, and forgets lengths.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol
from zlib import crc32

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from xmlgrpo_evaluator.harness.journal import Journal, Key, request_digest
from xmlgrpo_evaluator.harness.replies import CountedReply


class Listener(Protocol):
    """Is told of every reply, whether new or from the journal."""

    def __call__(self, request: Instance, reply: CountedReply, *, new: bool) -> None:
        """Take note of a reply."""


class ResumableLM(LM):  # type: ignore[misc]  # lm-eval is untyped
    """An lm-eval model in front of another one.

    Args:
        inner: the model that answers.
        journal: keeps its replies.
        seed: of sampled replies.
        seeds_requests: whether `inner` takes a seed with each request; without that, the global
            generator is seeded anew when a run is continued.
        before: called with all requests before the first is asked; checks belong here.
        on_reply: called with each request and its reply, the ones from the journal first.
        before_scoring: called with all texts that are to be scored, not answered.
        on_score: called after each of them.
    """

    def __init__(
        self,
        inner: LM,
        journal: Journal,
        *,
        seed: int,
        seeds_requests: bool,
        before: Callable[[Sequence[Instance]], None],
        on_reply: Listener,
        before_scoring: Callable[[Sequence[Instance]], None] = lambda _requests: None,
        on_score: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self.inner, self.journal = inner, journal
        self._seed, self._seeds_requests = seed, seeds_requests
        self._before, self._on_reply = before, on_reply
        self._before_scoring, self._on_score = before_scoring, on_score
        self._waiting: dict[str, list[tuple[Key, Instance]]] = {}

    def generate_until(self, requests: list[Instance]) -> list[CountedReply]:
        """Answer the requests that the journal does not hold; return the replies of all."""
        self._before(requests)
        keys = self._keys(requests)
        open_requests: list[Instance] = []
        self._waiting = defaultdict(list)
        for key, request in zip(keys, requests, strict=True):
            reply = self.journal.get(key)
            if reply is not None:
                self._on_reply(request, reply, new=False)
                continue
            asked = self._with_seed(request, key)
            open_requests.append(asked)
            self._waiting[request_digest(*asked.args)].append((key, request))
        if open_requests:
            self._seed_anew()
            self.inner.set_cache_hook(Hook("generate_until", self._answered))
            self.inner.generate_until(open_requests, disable_tqdm=True)
        replies = [self.journal.get(key) for key in keys]
        return [reply for reply in replies if reply is not None]

    def _keys(self, requests: Sequence[Instance]) -> list[Key]:
        seen: Counter[str] = Counter()
        keys = []
        for request in requests:
            digest = request_digest(*request.args)
            keys.append((digest, seen[digest]))
            seen[digest] += 1
        return keys

    def _with_seed(self, request: Instance, key: Key) -> Instance:
        prompt, options = request.args
        if not (self._seeds_requests and options.get("do_sample")):
            return request
        seed = crc32(f"{self._seed}\0{key[0]}\0{key[1]}".encode())
        return replace(request, arguments=(prompt, {**options, "seed": seed}))

    def _seed_anew(self) -> None:
        if self.journal.resumed and not self._seeds_requests:
            import torch

            # the same seed as at the start would repeat the first samples of the run
            torch.manual_seed(self._seed + self.journal.resumed)

    def _answered(self, arguments: Any, reply: str) -> None:
        prompt, options = arguments
        key, request = self._waiting[request_digest(prompt, options)].pop(0)
        counted = reply if isinstance(reply, CountedReply) else self._count(reply, options)
        self.journal.add(key, counted)
        self._on_reply(request, counted, new=True)

    def _count(self, reply: str, options: Any) -> CountedReply:
        """Count a plain reply by tokenizing it again: close, not exact."""
        tokens = len(self.inner.tok_encode(reply, add_special_tokens=False))
        limit = options.get("max_gen_toks", 0)
        return CountedReply(reply, tokens=tokens, truncated=0 < limit <= tokens)

    # the rest is the inner model's

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Score continuations; quick, so not kept in the journal."""
        self._watch_scores("loglikelihood", requests)
        return list(self.inner.loglikelihood(requests))

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Score texts; quick, so not kept in the journal."""
        self._watch_scores("loglikelihood_rolling", requests)
        return list(self.inner.loglikelihood_rolling(requests))

    def _watch_scores(self, kind: str, requests: Sequence[Instance]) -> None:
        self._before_scoring(requests)
        self.inner.set_cache_hook(Hook(kind, lambda *_: self._on_score()))

    def apply_chat_template(
        self,
        chat_history: list[dict[str, str]],
        add_generation_prompt: bool = True,  # noqa: FBT001, FBT002  # lm-eval's signature
    ) -> str:
        """Render a chat with the model's template."""
        return str(
            self.inner.apply_chat_template(
                chat_history, add_generation_prompt=add_generation_prompt
            )
        )

    def chat_template(self, chat_template: bool | str = False) -> str | None:  # noqa: FBT001, FBT002  # lm-eval's signature
        """The model's chat template."""
        template: str | None = self.inner.chat_template(chat_template)
        return template

    def get_model_info(self) -> dict[str, Any]:
        """What the model says of itself."""
        return dict(self.inner.get_model_info()) if hasattr(self.inner, "get_model_info") else {}

    @property
    def tokenizer_name(self) -> str:
        """The model's."""
        return str(self.inner.tokenizer_name)

    @property
    def rank(self) -> int:
        """The model's."""
        return int(self.inner.rank)

    @property
    def world_size(self) -> int:
        """The model's."""
        return int(self.inner.world_size)

    @property
    def device(self) -> Any:
        """The model's."""
        return self.inner.device

    def all_gather(self, tensor: Any) -> Any:
        """The model's."""
        return self.inner.all_gather(tensor)

    def gather_object(self, obj: Any, dst: int = 0) -> Any:
        """The model's."""
        return self.inner.gather_object(obj, dst)

    def barrier(self) -> None:
        """The model's."""
        self.inner.barrier()


class Hook:
    """lm-eval's cache hook: every model calls it as soon as a reply or a score is there.

    Args:
        kind: lm-eval's name of the requests that are listened for.
        on_result: called with a request's arguments and its result.
    """

    def __init__(self, kind: str, on_result: Callable[[Any, Any], None]) -> None:
        self._kind, self._on_result = kind, on_result

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        """Take note of one result; lm-eval's name and signature."""
        if attr == self._kind:
            self._on_result(req, res)
