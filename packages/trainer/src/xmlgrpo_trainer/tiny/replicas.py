"""One optimiser step shared by a few threads.

A model this small is computed faster by two threads with a part of the batch each than by one
whose every product is cut in two: torch's own threads wait for each other after every operation,
and on a machine that is not quite free they mostly wait.  The parts and the order in which their
gradients are added are fixed, so that the result does not depend on the machine's cores.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# (a replica, its number) -> its part of the loss
PartOfLoss = Callable[[Any, int], Tensor]


class Replicas:
    """The model and copies of it that share its weights and have gradients of their own.

    Args:
        model: trained in place.
        pool: as many threads as there are replicas.
        count: how many replicas, the model itself included.
    """

    def __init__(self, model: nn.Module, pool: ThreadPoolExecutor, count: int) -> None:
        self.pool = pool
        self.models = [model, *(_sharing(model) for _ in range(count - 1))]

    def add_gradients(self, loss: PartOfLoss) -> float:
        """Compute every replica's part of the loss; leave the summed gradient in the model.

        Args:
            loss: the part of the loss that replica `number` computes with its model.

        Returns:
            The sum of the parts.
        """

        def work(number: int) -> float:
            part = loss(self.models[number], number)
            torch.autograd.backward(part)
            return part.item()

        total = sum(self.pool.map(work, range(len(self.models))))
        first, *others = self.models
        for other in others:
            for parameter, same in zip(first.parameters(), other.parameters(), strict=True):
                if parameter.grad is not None and same.grad is not None:
                    parameter.grad += same.grad
        return total

    def step(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Step the optimisers, of disjoint parameters, side by side; drop all gradients."""
        list(self.pool.map(lambda optimizer: optimizer.step(), optimizers))
        for model in self.models:
            model.zero_grad(set_to_none=True)


@contextmanager
def single_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads in which torch computes alone; its number of threads is restored."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def _sharing(model: nn.Module) -> nn.Module:
    replica = copy.deepcopy(model)
    for own, shared in zip(replica.parameters(), model.parameters(), strict=True):
        own.data = shared.data
    return replica
