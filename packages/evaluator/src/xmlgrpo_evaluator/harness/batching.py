"""A batch must not change an answer: a few items are asked again, alone.

It is not a formality: with a fault in the padding the same weights answer otherwise in a batch than
alone.  Equal weights and greedy decoding give equal replies up to
rounding, which can turn a near tie between two tokens.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lm_eval.api.instance import Instance

from xmlgrpo_evaluator.harness.resumable import Hook


def check_batching(
    model: Any,
    samples: Mapping[str, list[dict[str, Any]]],
    items: int,
    on_reply: Callable[[], None] = lambda: None,
) -> dict[str, Any] | None:
    """Ask the first items of greedy tasks one at a time and compare the replies.

    Args:
        model: the lm-eval model, still loaded.
        samples: lm-eval's samples, by task, with the replies that were given in batches.
        items: how many to ask again.
        on_reply: called after each.

    Returns:
        How many were asked and how many replies are identical; None where there is nothing to
        compare: scored or sampled tasks, or a model that has no batch size.
    """
    given = dict(_greedy_replies(samples))
    chosen = dict(list(given.items())[:items])
    if not chosen:
        return None
    options = {
        s["arguments"][0][0]: s["arguments"][0][1] for rows in samples.values() for s in rows
    }
    requests = [
        Instance("generate_until", {}, (prompt, options[prompt]), index)
        for index, prompt in enumerate(chosen)
    ]
    with _one_at_a_time(model) as able:
        if not able:
            return None
        model.set_cache_hook(Hook("generate_until", lambda *_: on_reply()))
        alone = model.generate_until(requests, disable_tqdm=True)
    identical = sum(a == b for a, b in zip(alone, chosen.values(), strict=True))
    return {"items": len(chosen), "identical": identical}


def _greedy_replies(samples: Mapping[str, list[dict[str, Any]]]) -> Iterator[tuple[str, str]]:
    for rows in samples.values():
        for sample in rows:
            arguments = sample["arguments"][0]
            is_generation = len(arguments) == 2 and isinstance(arguments[1], dict)
            if is_generation and not arguments[1].get("do_sample"):
                yield arguments[0], str(sample["resps"][0][0])


@contextmanager
def _one_at_a_time(model: Any) -> Iterator[bool]:
    """Let a model write one reply at a time; gives False where it cannot be told to."""
    # an HF model has both: one for lm-eval's own call, one for the engine
    before = {n: getattr(model, n) for n in ("batch_size_per_gpu", "slots") if hasattr(model, n)}
    for name in before:
        setattr(model, name, 1)
    try:
        yield bool(before)
    finally:
        for name, value in before.items():
            setattr(model, name, value)
