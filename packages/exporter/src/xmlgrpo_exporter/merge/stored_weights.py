"""How many weights a folder holds, and in which number type: from the files' headers alone."""

from pathlib import Path

from xmlgrpo_rewards.errors import UserError

NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def weights_of(model: Path) -> tuple[int, str]:
    """Number of weights and the number type most of them have, from the safetensors' headers.

    Raises:
        UserError: a file is not whole, or there is no weight in any.
    """
    from safetensors import SafetensorError, safe_open

    sizes: dict[str, int] = {}
    for path in sorted(model.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np") as file:
                for key in file.keys():  # noqa: SIM118 - a safetensors file is no dict
                    tensor = file.get_slice(key)
                    count = 1
                    for length in tensor.get_shape():
                        count *= length
                    sizes[tensor.get_dtype()] = sizes.get(tensor.get_dtype(), 0) + count
        except SafetensorError as error:
            raise UserError(f"{path} is not a whole safetensors file ({error})") from None
    if not sizes:
        raise UserError(f"{model}: there is no weight in its .safetensors files")
    largest = max(sizes, key=lambda kind: sizes[kind])
    return sum(sizes.values()), NAMES.get(largest, largest)
