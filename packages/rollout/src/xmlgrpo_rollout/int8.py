"""A weight matrix in 8 bits: whole numbers from -127 to 127, and one scale for each of its rows.

Weights alone are quantized, each row by its largest entry ("absmax", arXiv 2208.07339, section
2.1); activations stay as they are.  A product of few rows takes as long as its weights take to be
read, and these are half the bytes of 16 bits.  Float8 (e4m3) would take as many, and be coarser
under one scale a row: it has three bits of mantissa.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name in torch's own documentation
from torch import Tensor

LARGEST = 127


@dataclass(frozen=True, slots=True)
class Int8Matrix:
    """Stands for `numbers * scales[:, None]`; N rows (what a projection gives), K columns.

    Attributes:
        numbers: int8.
        scales: float32.
        dtype: the number type of what it is multiplied with, and of the product.
    """

    numbers: Tensor
    scales: Tensor
    dtype: torch.dtype

    @property
    def shape(self) -> torch.Size:
        """(N, K)."""
        return self.numbers.shape

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.numbers.device

    def split(self, rows: list[int]) -> "list[Int8Matrix]":
        """Parts with so many rows each, which share this one's memory."""
        parts = zip(torch.split(self.numbers, rows), torch.split(self.scales, rows), strict=True)
        return [Int8Matrix(numbers, scales, self.dtype) for numbers, scales in parts]

    def write(self, exact_N_K: Tensor) -> None:
        """Quantize a float32 matrix into this one's memory; nothing waits for the device."""
        largest_N_1 = torch.linalg.vector_norm(exact_N_K, torch.inf, dim=1, keepdim=True)
        scales_N_1 = largest_N_1 / LARGEST
        # a row of zeros has a scale of 0, and its numbers must not be 0 / 0
        numbers = exact_N_K / scales_N_1.clamp(min=torch.finfo(torch.float32).tiny)
        self.numbers.copy_(numbers.round_())
        self.scales.copy_(scales_N_1[:, 0])

    def full(self) -> Tensor:
        """The matrix that it stands for, (N, K), in its number type."""
        return (self.numbers * self.scales[:, None]).to(self.dtype)


Matrix = Tensor | Int8Matrix


def linear(values: Tensor, weights: Matrix, bias: Tensor | None = None) -> Tensor:
    """`F.linear` of torch; of 8 bits by way of the full matrix: for many rows, or rarely."""
    return F.linear(values, full(weights), bias)


def full(weights: Matrix) -> Tensor:
    """The matrix itself, or the one that 8 bits stand for."""
    return weights if isinstance(weights, Tensor) else weights.full()
