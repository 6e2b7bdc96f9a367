"""Encoded prompts on disk: a CONDITIONING's tensor by the address of everything it was made from.

One safetensors file each, without the prompt's text:

    rows    F32 (used, width)   the encoder's output at the positions of the prompt
    signs   U8  (bytes,)        signs of the zeros after it, most significant bit first: the host multiplies by a mask,
                                which leaves -0.0 where the value was negative
    __metadata__                format, address, length (positions in all), sha256 of address, shapes and bytes

A file is used only if all of that agrees, else it counts as absent and is replaced. Nothing is ever unpickled.
"""

import hashlib
import json
import os
from pathlib import Path

import folder_paths
import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError

from .small_files import SmallFiles

FORMAT = "wan_gguf embedding 1"
LIMIT_VARIABLE, DEFAULT_LIMIT_MB = "WAN_GGUF_CACHE_MB", 1024
HASHES_LIMIT_BYTES = 64 << 10  # about 500 remembered files


def cache_folder() -> Path:
    """Below the host's user folder, in a part that its web server never serves; survives a restart."""
    return Path(folder_paths.get_system_user_directory("wan_gguf"))


def cache_limit_bytes() -> int:
    """The bound on all embeddings together, from the environment; 0 is no cache. Raises ValueError."""
    text = os.environ.get(LIMIT_VARIABLE, str(DEFAULT_LIMIT_MB))
    if not text.isascii() or not text.isdigit():
        raise ValueError(
            f"{LIMIT_VARIABLE}: got {text!r}; a whole number of MB is allowed, 0 switches the embedding cache off; "
            "change the environment variable and start ComfyUI again"
        )
    return int(text) << 20


def embedding_files(limit_bytes: int) -> SmallFiles:
    """The stored embeddings."""
    return SmallFiles(cache_folder() / "embeddings", ".safetensors", limit_bytes)


def hash_files() -> SmallFiles:
    """The remembered hashes of encoder files."""
    return SmallFiles(cache_folder() / "file_hashes", ".sha256", HASHES_LIMIT_BYTES)


def to_bytes(address: str, cond: torch.Tensor) -> bytes:
    """(1, length, width) float32 -> the contents of its file."""
    values = cond[0].cpu()
    nonzero = (values != 0).any(dim=1).nonzero()
    used = int(nonzero[-1]) + 1 if len(nonzero) else 0
    signs = np.packbits(torch.signbit(values[used:]).numpy())
    tensors = {"rows": values[:used].clone(), "signs": torch.from_numpy(signs)}
    return safetensors.torch.save(tensors, _metadata(address, len(values), tensors))


def from_bytes(address: str, data: bytes) -> torch.Tensor:
    """The same tensor, bit for bit, on the CPU. Raises ValueError unless `data` is a whole file of that address."""
    try:
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        tensors = safetensors.torch.load(data)
        length = int(metadata["length"])
    except (SafetensorError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"is not a stored embedding ({type(error).__name__})") from None
    kinds = {name: (tensor.dtype, tensor.dim()) for name, tensor in tensors.items()}
    if kinds != {"rows": (torch.float32, 2), "signs": (torch.uint8, 1)}:
        raise ValueError("has other tensors than an embedding")
    if metadata != _metadata(address, length, tensors):
        raise ValueError("is not what was stored under this address")
    rows, signs = tensors["rows"], tensors["signs"]
    zeros = (length - rows.shape[0]) * rows.shape[1]
    if zeros < 0 or signs.numel() != (zeros + 7) // 8:
        raise ValueError(f"has {signs.numel()} bytes of signs for {zeros} zeros")
    negative = torch.from_numpy(np.unpackbits(signs.numpy(), count=zeros)).bool()
    tail = torch.zeros(zeros).masked_fill_(negative, -0.0).view(-1, rows.shape[1])
    return torch.cat([rows, tail])[None]


def _metadata(address: str, length: int, tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """What belongs into the header of these tensors' file."""
    facts = {"format": FORMAT, "address": address, "length": str(length)}
    shapes = {name: [str(tensor.dtype), *tensor.shape] for name, tensor in sorted(tensors.items())}
    digest = hashlib.sha256(json.dumps([facts, shapes], sort_keys=True).encode())
    for _, tensor in sorted(tensors.items()):
        digest.update(tensor.numpy().tobytes())
    return facts | {"sha256": digest.hexdigest()}
