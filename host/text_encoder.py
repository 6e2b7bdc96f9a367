"""The UMT5 text encoder as the host's CLIP, and the encoding of weighted prompts.

The host's own T5 computes in float32 whatever the file holds. The encoder is built without memory (device "meta") and
then given the mapped file: matmul weights and the token table packed (a dense table alone would take 4.2 GB), norms
and position biases dense in float32.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.text_encoders.wan
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy.supported_models_base import ClipTarget

from ..loaders.umt5 import UMT5Checkpoint, load_umt5
from .assign import assign_tensors
from .lazy_encoder import LazyCLIP
from .operations import PackedOperations
from .patcher import adopt
from .prompt_tokens import Span, weighted_tokens
from .steady import make_steady

# Small, and read 512 x 512 times per layer: kept dense.
DENSE_SUFFIXES = ("relative_attention_bias.weight",)
HOST_BUCKETS = 32  # fixed in the host's T5


def open_text_encoder(path: str | Path) -> LazyCLIP:
    """The encoder in `path` for a loader node: the same CLIP, loaded at its first use. Raises OSError."""
    return LazyCLIP(path, load_text_encoder)


def load_text_encoder(path: str | Path, disable_dynamic: bool = False) -> comfy.sd.CLIP:
    """The encoder in `path` (GGUF or safetensors) as a CLIP for the host's nodes and ours."""
    checkpoint = load_umt5(path)
    _check_host_can_run(checkpoint)
    target = ClipTarget(comfy.text_encoders.wan.WanT5Tokenizer, comfy.text_encoders.wan.te(dtype_t5=torch.float32))
    options = {
        "custom_operations": PackedOperations,
        "umt5xxl_model_config": checkpoint.config,
        "initial_device": torch.device("meta"),
    }
    clip = comfy.sd.CLIP(
        target,
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        tokenizer_data={"spiece_model": torch.frombuffer(bytearray(checkpoint.spiece_model), dtype=torch.uint8)},
        model_options=options,
        disable_dynamic=disable_dynamic,
    )
    transformer = clip.cond_stage_model.umt5xxl.transformer
    assign_tensors(transformer, checkpoint.tensors, Path(checkpoint.path).name, DENSE_SUFFIXES)
    make_steady(transformer)
    adopt(clip.patcher)
    clip.patcher.cached_patcher_init = (load_text_encoder_patcher, (path,))
    return clip


def load_text_encoder_patcher(path: str | Path, disable_dynamic: bool = False) -> ModelPatcher:
    """A fresh copy for the host, which asks for patchers, not for CLIPs."""
    return load_text_encoder(path, disable_dynamic).patcher


def encode_prompt(clip: comfy.sd.CLIP, spans: Sequence[Span]) -> list:
    """CONDITIONING of a prompt in weighted parts; any CLIP with the host's UMT5 tokenizer will do.

    With all weights 1.0 the result is bit for bit that of the host's CLIP Text Encode for the joined text, up to 512
    tokens. Longer prompts are cut there, as in the official code.
    """
    tokenizer = _umt5_tokenizer(clip)
    tokens = weighted_tokens(tokenizer.tokenizer.tokenizer, spans, tokenizer.end_token, tokenizer.pad_token)
    return clip.encode_from_tokens_scheduled({"umt5xxl": [tokens]})


def _umt5_tokenizer(clip: comfy.sd.CLIP) -> Any:
    tokenizer = getattr(clip.tokenizer, "clip_umt5xxl", None)
    if tokenizer is None:
        raise ValueError(
            f"clip: the text encoder connected has a {type(clip.tokenizer).__name__}, Wan needs UMT5-XXL; load it with "
            "'Wan GGUF Text Encoder Loader', or with 'Load CLIP' and type wan"
        )
    return tokenizer


def _check_host_can_run(checkpoint: UMT5Checkpoint) -> None:
    buckets = checkpoint.config["relative_attention_num_buckets"]
    if buckets != HOST_BUCKETS:
        raise ValueError(
            f"{Path(checkpoint.path).name}: has {buckets} position buckets; ComfyUI's T5 has {HOST_BUCKETS}; "
            "use a UMT5 file"
        )
