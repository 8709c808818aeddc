"""One adapter whose change of the weights is the mean of those of several, at their rank.

The mean of low-rank factors is not the factor of the mean.  Side by side they are: where adapter i
adds s B_i A_i, [B_1, .., B_k] / k times [A_1; ..; A_k] is the mean, of k times the rank.  Its
largest singular values make the nearest change of the old rank (Eckart and Young 1936), which for
checkpoints near each other is all but the same.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
A, B = ".lora_A.", ".lora_B."


def save_mean(adapters: Sequence[Path], out: Path) -> float:
    """Write the mean of adapters that have the same settings.

    Args:
        adapters: folders.
        out: a folder to make.

    Returns:
        The share of the mean, in squares over all weights, that the rank had no room for.

    Raises:
        ValueError: an adapter has weights that are no factors.
    """
    found = [load_file(adapter / WEIGHTS) for adapter in adapters]
    if odd := [name for name in found[0] if A not in name and B not in name]:
        raise ValueError(f"expected factors of LoRA alone, got {odd[0]}")
    mean: dict[str, Tensor] = {}
    kept = whole = 0.0
    for name in found[0]:
        if A in name:
            other = name.replace(A, B)
            a_KR_I = torch.cat([weights[name] for weights in found])
            b_O_KR = torch.cat([weights[other] for weights in found], dim=1) / len(found)
            b_O_R, a_R_I, sizes_KR = truncated(b_O_KR, a_KR_I, rank=len(found[0][name]))
            mean |= {name: a_R_I.contiguous(), other: b_O_R.contiguous()}
            whole += float(sizes_KR.square().sum())
            kept += float(sizes_KR[: len(a_R_I)].square().sum())
    out.mkdir(parents=True, exist_ok=True)
    save_file(mean, out / WEIGHTS, metadata={"format": "pt"})
    shutil.copyfile(adapters[0] / CONFIG, out / CONFIG)
    return 1 - kept / whole if whole else 0.0


def truncated(b_O_K: Tensor, a_K_I: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest product of factors of `rank` to `b_O_K @ a_K_I`, and all its singular values."""
    left_O_K, upper_K_K = torch.linalg.qr(b_O_K.float())
    right_I_K, lower_K_K = torch.linalg.qr(a_K_I.float().T)
    u_K_K, sizes_K, v_K_K = torch.linalg.svd(upper_K_K @ lower_K_K.T, full_matrices=False)
    roots_R = sizes_K[:rank].sqrt()
    b_O_R = left_O_K @ u_K_K[:, :rank] * roots_R
    a_R_I = (right_I_K @ v_K_K[:rank].T * roots_R).T
    missing = rank - len(roots_R)  # of a projection that is narrower than the rank
    b_O_R = torch.nn.functional.pad(b_O_R, (0, missing))
    return b_O_R, torch.nn.functional.pad(a_R_I, (0, 0, 0, missing)), sizes_K
