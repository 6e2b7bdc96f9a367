"""Encoding a prompt, or taking its embedding from the cache; either way the same bits.

The address of an embedding is the sha256 of everything that decides its bytes: the encoder's file by its contents, the
cleaned text with its weights, and the conditions it is computed under. An encoder that a node has changed has no such
address, so its prompts are encoded every time.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence

import comfy.model_management
import comfy.sd
import comfy.utils
import torch

from .embedding_cache import FORMAT, cache_limit_bytes, embedding_files, from_bytes, hash_files, to_bytes
from .encoding_conditions import encoding_conditions
from .file_hash import FileChangedError, file_sha256, file_version
from .lazy_encoder import LazyCLIP
from .prompt_tokens import MAX_TOKENS, Span
from .small_files import SmallFiles
from .text_encoder import encode_prompt

FOREIGN_OR_CHANGED = "the text encoder is of another loader than Wan GGUF's, or a node has changed it (LoRA, clip skip)"


def encode_cached(clip: comfy.sd.CLIP, spans: Sequence[Span], name: str, use_cache: bool = True) -> tuple[list, str]:
    """(CONDITIONING as `encode_prompt` gives it, what the cache did), also in the log under the prompt's name.

    The second is "hit", "miss", "miss, not stored: REASON", "not cached: REASON" or "off".
    """
    conditioning, state = _encode(clip, spans, embedding_files(cache_limit_bytes() if use_cache else 0))
    logging.info("Wan GGUF: %s prompt, embedding cache: %s", name, state)
    return conditioning, state


def _encode(clip: comfy.sd.CLIP, spans: Sequence[Span], stored: SmallFiles) -> tuple[list, str]:
    if stored.limit_bytes == 0:
        return encode_prompt(clip, spans), "off"
    if not isinstance(clip, LazyCLIP) or not clip.is_as_loaded():
        return encode_prompt(clip, spans), f"not cached: {FOREIGN_OR_CHANGED}"
    try:
        address = _address(clip, spans)
    except (FileChangedError, OSError) as error:
        return encode_prompt(clip, spans), f"not cached: {error}"
    cond = _load(stored, address)
    if cond is not None:
        return [[cond.to(comfy.model_management.intermediate_device()), {"pooled_output": None}]], "hit"
    conditioning = encode_prompt(clip, spans)
    reason = _store(stored, clip, spans, conditioning)
    return conditioning, f"miss, not stored: {reason}" if reason else "miss"


def _load(stored: SmallFiles, address: str) -> torch.Tensor | None:
    data = stored.read(address)
    if data is None:
        return None
    try:
        return from_bytes(address, data)
    except ValueError as error:
        logging.warning("Wan GGUF: the cached embedding %s %s; the prompt is encoded again", address, error)
        return None


def _store(stored: SmallFiles, clip: LazyCLIP, spans: Sequence[Span], conditioning: list) -> str | None:
    """Keep it; returns why not. The address is taken again: the file may have been replaced while it was read."""
    reason = _unknown_part(conditioning)
    if reason is not None:
        return reason
    try:
        address = _address(clip, spans)
    except (FileChangedError, OSError) as error:
        return str(error)
    return stored.write(address, to_bytes(address, conditioning[0][0]))


def _unknown_part(conditioning: list) -> str | None:
    """What the stored form could not give back, or None."""
    if len(conditioning) != 1:
        return f"the encoder gave {len(conditioning)} parts instead of 1"
    cond, extra = conditioning[0]
    if extra != {"pooled_output": None}:
        return f"the encoder gave more than an embedding ({', '.join(sorted(extra))})"
    if cond.dtype != torch.float32 or cond.dim() != 3 or cond.shape[0] != 1:
        return f"the embedding is {cond.dtype} of shape {tuple(cond.shape)}"
    if not torch.isfinite(cond).all():
        return "the embedding has infinite or undefined values"
    return None


def _address(clip: LazyCLIP, spans: Sequence[Span]) -> str:
    """Raises FileChangedError, OSError."""
    built = clip.made_with is not None
    device = clip.patcher.load_device if built else comfy.model_management.text_encoder_device()
    facts = {
        "format": FORMAT,
        "encoder": _encoder_sha256(clip),
        "text": [[span.text, float(span.weight).hex()] for span in spans],
        "max_tokens": MAX_TOKENS,
        "conditions": encoding_conditions(device),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _encoder_sha256(clip: LazyCLIP) -> str:
    if file_version(clip.path) != clip.version:
        raise FileChangedError(f"{clip.path.name} was changed after it was chosen; queue the prompt again")
    if clip.sha256 is None:
        clip.sha256 = file_sha256(clip.version, hash_files(), _progress(clip.version.size))
    return clip.sha256


def _progress(total: int) -> Callable[[int], None]:
    """Shows bytes read on the running node, and raises when the run was interrupted."""
    bar = comfy.utils.ProgressBar(total)

    def show(done: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done)

    return show
