"""What a model file is, from its header only: for messages at the nodes and for `inspect`; bad files do not raise."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .fit import recorded_shapes
from .gguf import GGUFError, read_gguf_header
from .identify import Shapes, WrongModelError, describe_other, identify, other_model
from .safetensors_header import SafetensorsError, read_header
from .sniff import is_safetensors, sniff
from .umt5_config import SPIECE_KEY, check_dtypes, has_tokenizer, umt5_layout
from .wan_layout import wan_layout

_WAN_TASKS = {(16, 16): "T2V", (36, 16): "I2V", (48, 48): "TI2V"}  # by input and output channels
_UNQUANTISED = ("F32", "F16", "BF16")
_VAE_AS_GGUF = ("a Wan VAE as GGUF", "use its safetensors version in the Load VAE node")
_WAN_AS_SAFETENSORS = (
    "a Wan transformer as safetensors",
    "load it with the host's 'Load Diffusion Model' node, or make a GGUF of it with the node 'Wan GGUF Convert' or "
    "`python3 cli convert`",
)
_VAE_LATENT = "decoder.conv1.weight"  # (features, latent channels, 3, 3, 3)


@dataclass(frozen=True)
class ModelFile:
    """`kind` is "wan", "umt5", "vae" or "unknown"; `summary` one line for a person.

    `problem` is None for a usable file, else what is wrong and what to do. `latent_channels` is 0 where there are none.
    `other` is set for an undamaged file of another kind: what it is, as in "a Flux model", and what to do with it.
    """

    path: Path
    kind: str
    summary: str
    problem: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    latent_channels: int = 0
    other: tuple[str, str] | None = None


def describe(path: str | Path) -> ModelFile:
    """Kind and summary of a GGUF or safetensors file; others are "unknown" with a problem that says what they are."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(64)
        if head.startswith((b"GGUF", b"FUGG")):
            return _gguf(path)
        if is_safetensors(head):
            return _safetensors(path)
        return _unknown(path, f"{path.name}: the file is {sniff(head)}")
    except (GGUFError, SafetensorsError, WrongModelError) as error:
        return _unknown(path, str(error))
    except OSError as error:
        return _unknown(path, f"{path.name}: cannot be read ({error.strerror or error}); check that the file exists")


def vae_latent_channels(source: str | Path | Shapes) -> int:
    """Latent channels of a Wan VAE, from a safetensors file's path or from {name: shape}. Raises WrongModelError."""
    if isinstance(source, Mapping):
        shapes, name = source, "VAE"
    else:
        entries, _ = read_header(source)
        shapes, name = {key: entry.shape for key, entry in entries.items()}, Path(source).name
    if identify(shapes) != "vae" or len(shapes.get(_VAE_LATENT, ())) < 2:
        raise WrongModelError(f"{name}: is {describe_other(shapes)}")
    return shapes[_VAE_LATENT][1]


def _unknown(path: Path, problem: str) -> ModelFile:
    return ModelFile(path, "unknown", problem, problem)


def _other(path: Path, shapes: Shapes, found: tuple[str, str] | None = None) -> ModelFile:
    """A file of another kind: `found`, or what its names tell."""
    found = found or other_model(shapes)
    problem = f"{path.name}: is {'; '.join(found) if found else describe_other(shapes)}"
    return ModelFile(path, "unknown", problem, problem, other=found)


def _gguf(path: Path) -> ModelFile:
    file = read_gguf_header(path)
    types: Counter[str] = Counter()
    for name, info in file.tensors.items():
        types[info.format.name] += info.nbytes * (name != SPIECE_KEY)
    kind = identify(file.tensors)
    if kind == "wan":
        return _wan(path, wan_layout(file)[0], _type_names(types))
    shapes = recorded_shapes(file)
    if kind == "umt5":
        problem = None
        if not has_tokenizer(file):
            problem = f"{path.name}: has no tokenizer (tokenizer.ggml.tokens is missing); use a file with one"
        return _umt5(path, umt5_layout(shapes, path.name)[0], _type_names(types), problem)
    return _other(path, shapes, _VAE_AS_GGUF if kind == "vae" else None)


def _safetensors(path: Path) -> ModelFile:
    entries, _ = read_header(path)
    shapes = {name: entry.shape for name, entry in entries.items()}
    types: Counter[str] = Counter()
    for name, entry in entries.items():
        if name != SPIECE_KEY:
            types[entry.dtype] += entry.nbytes
    kind = identify(shapes)
    if kind == "vae":
        channels = vae_latent_channels(shapes)
        version = "2.2" if "decoder.upsamples.0.upsamples.0.residual.2.weight" in shapes else "2.1"
        summary = f"Wan {version} VAE, {channels} latent channels, {_type_names(types)}"
        return ModelFile(path, "vae", summary, config={"width": shapes[_VAE_LATENT][0]}, latent_channels=channels)
    if kind == "umt5":
        check_dtypes(path, entries)
        problem = None if SPIECE_KEY in entries else f"{path.name}: has no tokenizer (tensor {SPIECE_KEY} is missing)"
        return _umt5(path, umt5_layout(shapes, path.name)[0], _type_names(types), problem)
    return _other(path, shapes, _WAN_AS_SAFETENSORS if kind == "wan" else None)


def _wan(path: Path, config: dict[str, Any], types: str) -> ModelFile:
    task = "I2V" if config["model_type"] == "i2v" else _WAN_TASKS.get((config["in_dim"], config["out_dim"]), "")
    name = " ".join(word for word in ("Wan", task, "transformer") if word)
    summary = f"{name}, dim {config['dim']}, {config['num_layers']} layers, {config['out_dim']} channels, {types}"
    return ModelFile(path, "wan", summary, config=config, latent_channels=config["out_dim"])


def _umt5(path: Path, config: dict[str, Any], types: str, problem: str | None) -> ModelFile:
    summary = (
        f"UMT5 text encoder, width {config['d_model']}, {config['num_layers']} layers, "
        f"{config['vocab_size']} tokens, {types}"
    )
    return ModelFile(path, "umt5", summary, problem, config)


def _type_names(type_bytes: Mapping[str, int]) -> str:
    """The quantised types by size, "Q4_K+Q6_K"; the largest unquantised one where there are none."""
    ordered: Iterable[str] = sorted(type_bytes, key=lambda name: -type_bytes[name])
    names = list(ordered)
    return "+".join(name for name in names if name not in _UNQUANTISED) or "".join(names[:1]) or "no tensors"
