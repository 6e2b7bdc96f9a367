"""The reference transformer as a file of each type, by the pack's converter, and sizes of the real models' files."""

from pathlib import Path
from typing import Any

from gguf.constants import GGML_QUANT_VERSION

from wan_gguf.benchmarks.quality_state import digest
from wan_gguf.benchmarks.results import Results
from wan_gguf.cli.paths import MODEL_FILES
from wan_gguf.convert.container import PlannedTensor
from wan_gguf.convert.ggml_types import file_type_id
from wan_gguf.convert.hashes import file_sha256
from wan_gguf.convert.plan import Plan, plan_gguf
from wan_gguf.convert.quantize import quantizer
from wan_gguf.convert.recipe import Spec, wan_types
from wan_gguf.convert.run import convert
from wan_gguf.convert.source import open_source
from wan_gguf.loaders.wan import WanCheckpoint, load_wan
from wan_gguf.loaders.wan_config import wan_shapes

REFERENCE = MODEL_FILES / "wan_reference_dit_f16.gguf"
_A14B: dict[str, Any] = {"dim": 5120, "ffn_dim": 13824, "num_layers": 40, "in_dim": 16, "out_dim": 16}
_5B: dict[str, Any] = {"dim": 3072, "ffn_dim": 14336, "num_layers": 30, "in_dim": 48, "out_dim": 48}
_WAN: dict[str, Any] = {
    "model_type": "t2v", "text_dim": 4096, "freq_dim": 256, "qk_norm": True, "cross_attn_norm": True
}  # fmt: skip


def converted(file_type: str, folder: Path) -> Path:
    """The file of that type, made unless it is there; its name has a hash of all that it is made of."""
    source = open_source(REFERENCE)
    plan = plan_gguf(source, file_type)
    key = digest(file_sha256(REFERENCE), quantizer(), plan.layout.head.hex())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{file_type}-{key}.gguf"
    if not path.is_file():
        convert(source, plan, path)
    return path


def is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    """Whether the published rule quantises a tensor."""
    return name.startswith("blocks.") and len(shape) == 2


def describe(path: Path) -> Results:
    """Bytes of the file, its share of the F16 file, and bits per weight of the matrices that types differ in."""
    checkpoint = load_wan(path)
    check_is_reference(checkpoint)
    matrices = [packed for name, packed in checkpoint.tensors.items() if is_matrix(name, packed.shape)]
    types: dict[str, int] = {}
    for packed in matrices:
        types[packed.format.name] = types.get(packed.format.name, 0) + 1
    bits = 8 * sum(packed.nbytes for packed in matrices) / sum(packed.numel for packed in matrices)
    nbytes = path.stat().st_size
    share = nbytes / REFERENCE.stat().st_size
    return {"file": path.name, "bytes": nbytes, "share_of_f16": share, "bits_per_weight": bits, "matrices": types}


def check_is_reference(checkpoint: WanCheckpoint) -> None:
    """Raise ValueError for another model: it could not be compared with the reference transformer."""
    expected = {name: packed.shape for name, packed in load_wan(REFERENCE).tensors.items()}
    if {name: packed.shape for name, packed in checkpoint.tensors.items()} != expected:
        config = checkpoint.config
        raise ValueError(
            f"{Path(checkpoint.path).name}: is a Wan transformer of width {config['dim']} with {config['num_layers']} "
            f"blocks; only versions of {REFERENCE.name} can be compared; make one with `python3 cli convert`"
        )


def real_bytes(file_type: str) -> dict[str, int]:
    """{model: bytes} of the published files' sizes, from an F16 checkpoint; A14B is one of its two experts."""
    return {"A14B": _bytes(_A14B, file_type), "TI2V-5B": _bytes(_5B, file_type)}


def _bytes(config: dict[str, Any], file_type: str) -> int:
    """The length is a matter of shapes: nothing is read or written."""
    shapes = wan_shapes({**_WAN, **config})
    types = wan_types({name: Spec(shape, "F16") for name, shape in shapes.items()}, file_type)
    tensors = tuple(PlannedTensor(name, name, types[name], shape) for name, shape in shapes.items())
    metadata = {
        "general.architecture": "wan",
        "general.quantization_version": GGML_QUANT_VERSION,
        "general.file_type": file_type_id(file_type),
    }
    return Plan("gguf", file_type, tensors, metadata).nbytes
