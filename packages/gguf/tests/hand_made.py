"""A GGUF file written by hand: five pieces, one layer, no converter."""

import struct
from math import sin
from pathlib import Path

U32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
PIECES = ("<unk>", "<s>", "</s>", "a", "b")
NORMAL, UNKNOWN, CONTROL = 1, 2, 3
WIDTH, F32, ALIGNMENT = 32, 0, 32
CHAT = [{"role": "user", "content": "ab"}]
ECHO = "{{ bos_token }}{{ messages[0].content }}"
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def array(kind: int, items: list[bytes]) -> bytes:
    return struct.pack("<IQ", kind, len(items)) + b"".join(items)


def write_gguf(
    path: Path,
    *,
    template: str | None = ECHO,
    blocks: int = 1,
    weights: bool = True,
    vocabulary: str = "llama",
) -> Path:
    """A file that llama.cpp loads and asks.

    Args:
        path: where to.
        template: of a chat.
        blocks: layers that the header speaks of; there is one.
        weights: whether it has any.
        vocabulary: "llama" has a BOS, "t5" has none.
    """
    number = struct.Struct("<I").pack
    kinds = [UNKNOWN, CONTROL, CONTROL, NORMAL, NORMAL]
    pairs = [
        ("general.architecture", STRING, text("llama")),
        ("llama.context_length", U32, number(64)),
        ("llama.embedding_length", U32, number(WIDTH)),
        ("llama.block_count", U32, number(blocks)),
        ("llama.feed_forward_length", U32, number(WIDTH)),
        ("llama.attention.head_count", U32, number(1)),
        ("llama.attention.layer_norm_rms_epsilon", FLOAT32, struct.pack("<f", 1e-6)),
        ("tokenizer.ggml.model", STRING, text(vocabulary)),
        ("tokenizer.ggml.tokens", ARRAY, array(STRING, [text(piece) for piece in PIECES])),
        ("tokenizer.ggml.scores", ARRAY, array(FLOAT32, [struct.pack("<f", 0.0)] * len(PIECES))),
        ("tokenizer.ggml.token_type", ARRAY, array(INT32, [struct.pack("<i", k) for k in kinds])),
        ("tokenizer.ggml.add_space_prefix", BOOL, b"\0"),  # there is no piece for a space
    ]
    if template is not None:
        pairs.append(("tokenizer.chat_template", STRING, text(template)))
    tensors = _tensors() if weights else []
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    head += b"".join(text(key) + struct.pack("<I", kind) + value for key, kind, value in pairs)
    body = b""
    for name, shape, values in tensors:
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, F32, len(body))
        body += struct.pack(f"<{len(values)}f", *values)
    path.write_bytes(head + bytes(-len(head) % ALIGNMENT) + body)
    return path


def _tensors() -> list[tuple[str, tuple[int, ...], list[float]]]:
    squares = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes = {
        "token_embd": (WIDTH, len(PIECES)),
        "output_norm": (WIDTH,),
        "blk.0.attn_norm": (WIDTH,),
        "blk.0.ffn_norm": (WIDTH,),
        **{f"blk.0.{name}": (WIDTH, WIDTH) for name in squares},
    }
    tensors = []
    for name, shape in shapes.items():
        count = WIDTH * (shape[1] if len(shape) > 1 else 1)
        values = (
            [sin(99 * number) / 3 for number in range(count)] if len(shape) > 1 else [1.0] * count
        )
        tensors.append((f"{name}.weight", shape, values))
    return tensors
