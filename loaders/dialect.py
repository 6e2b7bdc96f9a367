"""Which program made a GGUF file, by its metadata and the shapes in its table; a guess for a person to read."""

from .gguf import GGUFHeader
from .identify import wan_prefix

_PATCH = "patch_embedding.weight"
_THREE_KEYS = {"general.architecture", "general.quantization_version", "general.file_type"}


def gguf_dialect(header: GGUFHeader) -> str:
    """One line, such as "ComfyUI-GGUF (QuantStack, city96, unsloth and most others)"."""
    keys = header.metadata
    if "wan_gguf.quantizer" in keys:
        return f"this pack's converter ({keys['wan_gguf.quantizer']})"
    if any(key.startswith("tokenizer.ggml.") for key in keys) and "token_embd.weight" in header.tensors:
        return f"llama.cpp's converter, architecture {keys.get('general.architecture', 'not said')}"
    if any(key.startswith("comfy.gguf.orig_shape.") for key in keys) or keys.get("general.architecture") in (
        "pig",
        "cow",
    ):
        return "gguf-connector (calcuis)"
    prefix = wan_prefix(header.tensors)
    patch = header.tensors.get(prefix + _PATCH)
    under = f", under the prefix {prefix}" if prefix else ""
    if patch is None and keys:
        return f"ComfyUI-GGUF without its last step, fix_5d_tensors.py{under}"
    if not keys or (patch is not None and len(patch.shape) == 4):
        return f"stable-diffusion.cpp{under}"
    if set(keys) >= _THREE_KEYS:
        return f"ComfyUI-GGUF (QuantStack, city96, unsloth and most others){under}"
    return f"unknown{under}"
