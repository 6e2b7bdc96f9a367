"""What 'Wan GGUF Convert' does: names, refusals that cost nothing, and the pack's converter under the host's eyes."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..convert.errors import ConvertError
from ..convert.ggml_types import FILE_TYPES
from ..convert.merge import Lora, with_loras
from ..convert.plan import plan_gguf
from ..convert.run import Summary, convert
from ..convert.source import open_source
from ..convert.target import check_target
from ..text.file_names import validate_file_name

ENDING = ".gguf"
_INDEX_END = ".safetensors.index.json"
_TYPE_AT_END = re.compile(rf"(?<=.)[-_.](?:{'|'.join(FILE_TYPES)}|fp(?:8|16|32)\w*)$", re.IGNORECASE)


@dataclass(frozen=True)
class Wish:
    """What is to be converted into what."""

    source: Path
    file_type: str
    target: Path
    lora: Lora | None = None
    overwrite: bool = False
    plain: bool = False


def target_name(file_name: str, source_name: str, file_type: str) -> str:
    """The result's name: `file_name` with its ending, or where it is blank one made of the source's and the type.

    Raises ValueError.
    """
    wanted = file_name.strip()
    if not wanted:
        return f"{_stem(source_name)}-{file_type}{ENDING}"
    if wanted.lower().endswith((".safetensors", ".sft")):
        raise ValueError(f"file_name: this node writes {ENDING} files, got '{wanted}'; choose a name that ends so")
    try:
        validate_file_name(wanted)
    except ValueError as error:
        raise ValueError(f"file_name: {error}") from None
    return wanted if wanted.lower().endswith(ENDING) else wanted + ENDING


def _stem(source_name: str) -> str:
    """ "diffusion_models/wan/Wan2.2-TI2V-5B_fp16.safetensors" -> "Wan2.2-TI2V-5B".

    A model in parts is called as the folders it lies in: index files all have the same name.
    """
    folders, _, name = source_name.replace("\\", "/").rpartition("/")
    inside = folders.split("/")[1:]
    if name.endswith(_INDEX_END):
        return _TYPE_AT_END.sub("", "-".join(inside) or name.removesuffix(_INDEX_END))
    return _TYPE_AT_END.sub("", name.rpartition(".")[0])


def check_source(path: Path) -> None:
    """Raise ValueError or OSError when the file cannot become a GGUF at all; reads headers only."""
    plan_gguf(open_source(path), "F16")


def convert_wish(
    wish: Wish, show: Callable[[int, int], None], stop_if_interrupted: Callable[[], None]
) -> tuple[Summary, list[str]]:
    """Write the file; what was written, and what the LoRA had to say.

    `show` gets the bytes of the source that are done, and all of them. Raises ValueError, OSError and what
    `stop_if_interrupted` raises; then there is no file under the name, or still the one that was there.
    """
    if wish.target.exists() and not wish.overwrite:
        raise ConvertError(f"{wish.target}: exists; choose another file name, or switch overwrite on")
    source, said = open_source(wish.source), []
    check_target(source, plan_gguf(source, wish.file_type, wish.plain), wish.target, wish.overwrite)
    if wish.lora is not None:
        source, said = with_loras(source, [wish.lora])
    plan = plan_gguf(source, wish.file_type, wish.plain)
    summary = convert(
        source,
        plan,
        wish.target,
        wish.overwrite,
        lambda at: show(at.source_bytes, at.n_source_bytes),
        stop_if_interrupted,
    )
    return summary, list(said)


def describe_summary(summary: Summary, said: list[str]) -> str:
    """The result for a person: size, share of the source, time, types, and the LoRA's report."""
    share = summary.nbytes / max(summary.source_bytes, 1)
    rate = summary.source_bytes / 1e6 / max(summary.seconds, 1e-9)
    lines = [
        summary.target.name,
        f"{summary.nbytes / 1e6:.1f} MB, {share:.0%} of the source, in {summary.seconds:.1f} s ({rate:.1f} MB/s)",
        *(f"{name}: {count} tensors, {nbytes / 1e6:.1f} MB" for name, (count, nbytes) in summary.types.items()),
        *said,
    ]
    return "\n".join(lines)
