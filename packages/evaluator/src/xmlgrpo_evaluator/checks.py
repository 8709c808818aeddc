"""What is checked in every evaluation: prompts, their room, and that batches change no answer."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any

from lm_eval.api.instance import Instance

from xmlgrpo_evaluator.harness.resumable import Hook
from xmlgrpo_evaluator.settings import Evaluation
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import get_task
from xmlgrpo_run.prompt import tokenizer_prompt

_task = cache(get_task)  # finding a task scans the installed packages

_CONTEXT = 5  # tokens shown on either side of a difference


@dataclass(frozen=True, slots=True)
class PromptCheck:
    """How the distinct prompts of an evaluation compare with those of training."""

    prompts: int
    compared: int  # those with a counterpart in training; none with shots or a stock task
    identical: int  # of these, equal token for token
    begins_with: dict[str, int]  # number of BOS tokens -> how many prompts begin with them
    longest: int  # tokens
    digest: str  # of all prompts' token ids; equal digests mean equal prompts
    first_difference: str | None

    @property
    def passed(self) -> bool:
        """Whether no compared prompt differs."""
        return self.identical == self.compared


def check_prompts(
    requests: Sequence[Instance],
    model: Any,
    tokenizer: Any | None,
    bos: int | None,
    on_prompt: Callable[[int], None] = lambda _done: None,
) -> PromptCheck:
    """Tokenize every prompt both ways and compare.

    A BOS too many, a system message that goes elsewhere or a tokenizer that a conversion has
    changed lowers a score without any error.  So each prompt is tokenized by the model as it will
    see it, and by the training tokenizer from the chat that training uses.

    Args:
        tokenizer: the training tokenizer (transformers); None when there is none, or when
            the prompts are meant to differ, as with shots.
        bos: id of the BOS; None for a model without one.
        on_prompt: called with how many distinct prompts are compared so far.
    """
    docs = {request.args[0]: request.doc for request in requests}
    all_ids: dict[str, list[int]] = {}
    compared = identical = 0
    first_difference = None
    for done, (text, doc) in enumerate(docs.items(), start=1):
        all_ids[text] = _model_tokens(model, text)
        on_prompt(done)
        expected = _training_tokens(tokenizer, doc)
        if expected is None:
            continue
        compared += 1
        if all_ids[text] == expected:
            identical += 1
        elif first_difference is None:
            first_difference = _difference(doc["id"], all_ids[text], expected)
    return PromptCheck(
        prompts=len(docs),
        compared=compared,
        identical=identical,
        begins_with=dict(Counter(str(_leading(ids, bos)) for ids in all_ids.values())),
        longest=max(map(len, all_ids.values()), default=0),
        digest=sha256(repr(sorted(all_ids.values())).encode()).hexdigest(),
        first_difference=first_difference,
    )


def training_tokenizer(evaluation: Evaluation) -> Any | None:
    """The tokenizer that prompts are compared with; None where they are meant to be other ones.

    For a GGUF of unknown origin there is none either.
    """
    model, settings = evaluation.model, evaluation.settings
    shots = settings.harness.get("num_fewshot")
    if shots or not settings.chat_template or settings.harness.get("system_instruction"):
        return None
    place = model.tokenizer or (None if model.backend == "llama-cpp" else model.source)
    return None if place is None else _tokenizer(place, model.revision or "main")


@cache  # Gemma's takes seconds to read, and base and tuned compare with the same
def _tokenizer(place: str, revision: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(place, revision=revision)


def bos_of(model: Any) -> int | None:
    """Id of the BOS of an lm-eval model; None without one."""
    gguf = getattr(model, "gguf", None)
    if gguf is not None:
        return None if gguf.bos < 0 else int(gguf.bos)
    bos = getattr(getattr(model, "tokenizer", None), "bos_token_id", None)
    return None if bos is None else int(bos)


def check_room(requests: Sequence[Instance], model: Any, longest: int) -> None:
    """Refuse, before anything is asked, an evaluation in which a prompt would have to be cut.

    Raises:
        UserError: the longest prompt and the longest reply do not fit the model together.
    """
    limits = [request.args[1].get("max_gen_toks", 0) for request in requests]
    limit, room = max(limits, default=0), getattr(model, "max_length", None)
    if room and longest + limit > room:
        left = room - longest
        remedy = f"use --max-new-tokens {left} or fewer, or leave" if left > 0 else "leave"
        raise UserError(
            f"the longest prompt has {longest} tokens and a reply may have {limit}, together "
            f"more than the model's {room}; {remedy} the longest items out"
        )


def check_batching(
    model: Any,
    samples: Mapping[str, list[dict[str, Any]]],
    items: int,
    on_reply: Callable[[], None] = lambda: None,
) -> dict[str, Any] | None:
    """Ask the first items of greedy tasks one at a time and compare the replies.

    With a fault in the padding the same weights answer otherwise in a batch than alone.  Equal
    weights and greedy decoding give equal replies up to rounding, which can turn a near tie
    between two tokens.

    Args:
        samples: lm-eval's, by task, with the replies that were given in batches.
        on_reply: called after each.

    Returns:
        How many were asked and how many replies are identical; None where nothing was answered
        greedily.
    """
    greedy = {s["arguments"][0][0]: s for rows in samples.values() for s in rows if _is_greedy(s)}
    chosen = list(greedy.values())[:items]
    if not chosen:
        return None
    model.set_cache_hook(Hook("generate_until", lambda *_: on_reply()))
    identical = 0
    for number, sample in enumerate(chosen):
        request = Instance("generate_until", {}, tuple(sample["arguments"][0]), number)
        [alone] = model.generate_until([request], disable_tqdm=True)
        identical += alone == str(sample["resps"][0][0])
    return {"items": len(chosen), "identical": identical}


def _model_tokens(model: Any, text: str) -> list[int]:
    """The ids that the model will see for a prompt."""
    if hasattr(model, "tok_batch_encode"):  # `hf` generates from this one, not from tok_encode
        ids, _ = model.tok_batch_encode([text])
        return [int(token) for token in ids[0]]
    return [int(token) for token in model.tok_encode(text)]


def _training_tokens(tokenizer: Any | None, doc: dict[str, Any]) -> list[int] | None:
    """The ids of the chat that training uses; None for an item that training does not know."""
    if tokenizer is None or not {"task", "question", "user_text"} <= doc.keys():
        return None
    chat = _task(doc["task"]).messages(doc["question"])
    text = tokenizer_prompt(tokenizer, chat).text
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _leading(ids: Sequence[int], bos: int | None) -> int:
    count = 0
    while count < len(ids) and ids[count] == bos:
        count += 1
    return count


def _difference(item: str, got: Sequence[int], expected: Sequence[int]) -> str:
    pairs = zip(got, expected, strict=False)
    place = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(got), len(expected)))
    around = slice(max(0, place - _CONTEXT), place + _CONTEXT)
    return (
        f"item {item}, token {place}: expected ...{list(expected[around])}..., "
        f"got ...{list(got[around])}..."
    )


def _is_greedy(sample: Mapping[str, Any]) -> bool:
    """Whether a sample is a reply without drawing: scored ones have other arguments."""
    arguments = sample["arguments"][0]
    is_generation = len(arguments) == 2 and isinstance(arguments[1], dict)
    return is_generation and not arguments[1].get("do_sample")
