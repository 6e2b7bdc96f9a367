"""Checks of a chosen model file that read only its header, so a wrong file is refused before anything is loaded."""

from ..host.paths import model_path
from ..loaders.describe import describe

_KINDS = {  # kind as in loaders.describe -> what it is, what to do with it
    "wan": ("a Wan diffusion model", "choose it in 'Wan GGUF Model Loader'"),
    "umt5": ("a UMT5 text encoder", "choose it in 'Wan GGUF Text Encoder Loader'"),
    "vae": ("a Wan VAE", "choose it in the host's 'Load VAE'"),
}
_WANTED = {"wan": "a Wan diffusion model in GGUF", "umt5": "a UMT5 text encoder"}
UMT5_FILES = "umt5-xxl-encoder-*.gguf or umt5_xxl_fp16.safetensors"
_NEEDED = {
    "wan": "Wan2.2-TI2V-5B-*.gguf, or one of Wan2.2-T2V-A14B-HighNoise-*.gguf and its LowNoise twin",
    "umt5": UMT5_FILES,
}


def refuse_file(folder_key: str, file_name: str, wanted: str) -> str | None:
    """Say why the file cannot be loaded as `wanted` ("wan" or "umt5"), or return None; reads the header only.

    The host puts the name of the one validated input before the message.
    """
    try:
        found = describe(model_path(folder_key, file_name))
    except (OSError, ValueError) as error:
        return str(error)
    if found.kind == wanted:
        return found.problem
    if found.kind in _KINDS:
        what, remedy = _KINDS[found.kind]
    elif found.other is not None:
        what, remedy = found.other
    else:
        return found.problem
    return f"'{file_name}' is {what}, not {_WANTED[wanted]}; {remedy}; choose here {_NEEDED[wanted]}"


def file_version(folder_key: str, file_name: str) -> tuple[int, int]:
    """(size in bytes, time of change in ns): a replaced file counts as changed, so the host loads it again."""
    status = model_path(folder_key, file_name).stat()
    return status.st_size, status.st_mtime_ns
