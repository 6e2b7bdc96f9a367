"""What a conversion will write: every tensor's name, type and shape, the metadata, and so the file's exact length.

A plan is data: change a tensor's type with `dataclasses.replace` and the length follows.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gguf.constants import GGML_QUANT_VERSION

from ..loaders.tokenizer import build_spiece_model
from ..loaders.umt5_config import SPIECE_KEY, llama_name
from .container import Layout, PlannedTensor, gguf_layout, safetensors_layout
from .errors import ConvertError
from .ggml_types import PLAIN, check_file_type, file_type_id
from .importance import Importance
from .quantize import quantizer, refuse_type
from .recipe import Spec, umt5_types, wan_types
from .source import Source
from .spiece import tokenizer_keys

HASHES = "wan_gguf.source.sha256"  # an array of hex strings, one for each of the source's files, filled in at the end
_ARCHITECTURES = {"wan": "wan", "umt5": "t5encoder"}
_EXACT_ENOUGH = (*PLAIN, "Q8_0")  # GGUF types that may be quantised again
_CONTEXT_LENGTH = 512  # tokens of a prompt in Wan
_CARRIED = ("general.name", "general.author", "general.license", "general.url", "general.description")


@dataclass(frozen=True)
class Plan:
    """`container` is "gguf" or "safetensors"; `metadata` holds what the container's header can.

    `importance` says how much the errors of each column count when its matrix is quantised; without it, and in the
    published files, all is left to the quantiser.
    """

    container: str
    file_type: str
    tensors: tuple[PlannedTensor, ...]
    metadata: Mapping[str, Any]
    importance: Importance | None = None

    @cached_property
    def layout(self) -> Layout:
        """The bytes before the data and the file's length."""
        if self.container == "safetensors":
            return safetensors_layout(self.tensors, self.metadata)
        return gguf_layout(self.tensors, self.metadata)

    @property
    def nbytes(self) -> int:
        """The file's length."""
        return self.layout.nbytes

    def types(self) -> dict[str, tuple[int, int]]:
        """{type: (tensors, bytes)}, the largest first."""
        found: dict[str, tuple[int, int]] = {}
        for tensor in self.tensors:
            count, nbytes = found.get(tensor.type_name, (0, 0))
            found[tensor.type_name] = count + 1, nbytes + tensor.nbytes
        return dict(sorted(found.items(), key=lambda item: -item[1][1]))


def plan_gguf(source: Source, file_type: str, plain: bool = False, license_name: str | None = None) -> Plan:
    """A GGUF by the published rule. `plain`: with the metadata of the published files only. Raises ConvertError."""
    file_type = check_file_type(file_type)
    specs = {name: Spec(tensor.shape, tensor.dtype) for name, tensor in source.tensors.items()}
    types = wan_types(specs, file_type, source.is_gguf) if source.kind == "wan" else umt5_types(specs, file_type)
    _check_types(source, types)
    stored = llama_name if source.kind == "umt5" else str
    tensors = tuple(
        PlannedTensor(stored(name), name, types[name], tensor.shape) for name, tensor in source.tensors.items()
    )
    metadata = file_keys(source, file_type)
    if not plain:
        metadata |= provenance(source, license_name)
    return Plan("gguf", file_type, tensors, metadata)


def plan_safetensors(source: Source, dtype: str, license_name: str | None = None) -> Plan:
    """All tensors in F16, BF16 or F32 under the names that the host's files have. Raises ConvertError."""
    dtype = check_file_type(dtype)
    if dtype not in PLAIN:
        raise ConvertError(f"type {dtype} is none for safetensors; there are: {', '.join(PLAIN)}")
    tensors = [PlannedTensor(name, name, dtype, tensor.shape) for name, tensor in source.tensors.items()]
    if source.kind == "umt5":
        spiece = source.spiece_model or build_spiece_model(source.metadata, source.path.name)
        tensors.append(PlannedTensor(SPIECE_KEY, "", "I8", (len(spiece),), spiece))
    license_name = license_name or _license(source)
    return Plan("safetensors", dtype, tuple(tensors), {"license": license_name} if license_name else {})


def _check_types(source: Source, types: Mapping[str, str]) -> None:
    """Every type can be made here, and nothing is quantised a second time from something coarse."""
    for name, type_name in types.items():
        reason = refuse_type(type_name)
        if reason:
            raise ConvertError(reason)
        dtype = source.tensors[name].dtype
        if source.is_gguf and type_name not in PLAIN and dtype not in (*_EXACT_ENOUGH, type_name):
            raise ConvertError(
                f"{source.path.name}: tensor {name} is {dtype}; what is made from it would have the errors of both "
                f"types; {', '.join(_EXACT_ENOUGH)} are allowed as source; use the 16-bit or Q8_0 version"
            )


def file_keys(source: Source, file_type: str) -> dict[str, Any]:
    """The keys of published files: three for Wan; the encoder's settings and the tokenizer as well for UMT5."""
    architecture = _ARCHITECTURES[source.kind]
    keys: dict[str, Any] = {
        "general.architecture": architecture,
        "general.quantization_version": GGML_QUANT_VERSION,
        "general.file_type": file_type_id(file_type),
    }
    if source.kind == "umt5":
        keys |= {"general.type": "model"} | _encoder_keys(source.config, architecture) | _tokenizer(source)
    return keys


def _encoder_keys(config: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    return {
        f"{architecture}.context_length": _CONTEXT_LENGTH,
        f"{architecture}.embedding_length": config["d_model"],
        f"{architecture}.feed_forward_length": config["d_ff"],
        f"{architecture}.block_count": config["num_layers"],
        f"{architecture}.attention.head_count": config["num_heads"],
        f"{architecture}.attention.key_length": config["d_kv"],
        f"{architecture}.attention.value_length": config["d_kv"],
        f"{architecture}.attention.layer_norm_epsilon": config["layer_norm_epsilon"],
        f"{architecture}.attention.layer_norm_rms_epsilon": config["layer_norm_epsilon"],
        f"{architecture}.attention.relative_buckets_count": config["relative_attention_num_buckets"],
    }


def _tokenizer(source: Source) -> dict[str, Any]:
    """A GGUF's own keys, or those made of the sentencepiece model."""
    if "tokenizer.ggml.tokens" in source.metadata:
        build_spiece_model(source.metadata, source.path.name)  # refuses what the loader would refuse
        return {key: value for key, value in source.metadata.items() if key.startswith("tokenizer.")}
    if source.spiece_model is None:
        raise ConvertError(
            f"{source.path.name}: has no tokenizer; put spiece.model beside it, or name it with --tokenizer "
            "(it is in the folder 'tokenizer' of the model's repository)"
        )
    return tokenizer_keys(source.spiece_model, source.config["vocab_size"], source.path.name)


def provenance(source: Source, license_name: str | None = None) -> dict[str, Any]:
    """What tells where a file comes from; none of it is needed to load it."""
    keys = {key: source.metadata[key] for key in _CARRIED if isinstance(source.metadata.get(key), str)}
    license_name = license_name or _license(source)
    if license_name:
        keys["general.license"] = license_name
    if source.expert:
        keys["wan_gguf.expert"] = source.expert
    return keys | {
        "wan_gguf.config": json.dumps(source.config, sort_keys=True),
        "wan_gguf.quantizer": quantizer(),
        "wan_gguf.source.files": [path.name for path in source.files],
        "wan_gguf.source.dtypes": sorted({tensor.dtype for tensor in source.tensors.values()}),
        **({"wan_gguf.loras": list(source.loras)} if source.loras else {}),
        HASHES: ["0" * 64] * len(source.files),
    }


def _license(source: Source) -> str | None:
    """What the source says: a GGUF's general.license, a safetensors header's license."""
    for key in ("general.license", "license", "modelspec.license"):
        if isinstance(source.metadata.get(key), str) and source.metadata[key]:
            return source.metadata[key]
    return None
