"""For blocks decoded by hand."""

import torch

from wan_gguf.ops.formats import FORMATS


def decode_one(name: str, raw: bytes) -> list[float]:
    """The weights of some blocks, in float32."""
    blocks = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(-1, FORMATS[name].block_bytes)
    return FORMATS[name].decode(blocks, torch.float32).view(-1).tolist()
