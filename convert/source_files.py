"""Which files a source is: one file, or the shards that a folder or an index names."""

import json
import re
from pathlib import Path

from ..loaders.sniff import sniff
from .errors import ConvertError

INDEX_END = ".safetensors.index.json"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
_PICKLES = (".pt", ".pth", ".ckpt", ".bin")


def source_files(path: Path) -> list[Path]:
    """The GGUF file or the safetensors files, in order. Raises ConvertError, OSError."""
    if path.is_dir():
        return _in_folder(path)
    if not path.exists():
        raise ConvertError(f"{path}: there is no such file or folder; check the path")
    if path.name.endswith(".index.json"):
        return _in_index(path)
    _refuse_others(path)
    shard = _SHARD.fullmatch(path.name)
    if shard and int(shard["count"]) > 1:
        raise ConvertError(f"{path.name}: is one of {int(shard['count'])} parts of a model; give its folder instead")
    return [path]


def _refuse_others(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(64)
    found = sniff(head)
    if found not in ("a GGUF file", "a safetensors file"):
        raise ConvertError(f"{path.name}: the file is {found}")


def _in_folder(folder: Path) -> list[Path]:
    indices = sorted(path for path in folder.iterdir() if path.name.endswith(INDEX_END))
    if len(indices) == 1:
        return _in_index(indices[0])
    files = sorted(path for path in folder.iterdir() if path.suffix == ".safetensors")
    if len(indices) > 1 or not files:
        raise ConvertError(_nothing_in(folder, [path.name for path in indices]))
    shards = [_SHARD.fullmatch(path.name) for path in files]
    if all(shards):
        stems = {(shard["stem"], int(shard["count"])) for shard in shards if shard}
        if len(stems) == 1:
            ((stem, count),) = stems
            return _all_there(folder, [f"{stem}-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)])
    if len(files) > 1:
        names = ", ".join(path.name for path in files[:4])
        raise ConvertError(f"{folder}: holds {len(files)} models ({names}); give one file")
    _refuse_others(files[0])
    return files


def _nothing_in(folder: Path, indices: list[str]) -> str:
    if indices:
        return f"{folder}: holds {len(indices)} indices ({', '.join(indices)}); give one of them"
    inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and _has_model(path))
    if inside:
        return f"{folder}: holds no safetensors file itself; give one of its folders: {', '.join(inside)}"
    if any(path.suffix in _PICKLES for path in folder.iterdir()):
        return f"{folder}: holds pickles only, which can run code when opened; take the safetensors version"
    return f"{folder}: holds no safetensors file; give the folder or the file of a model"


def _has_model(folder: Path) -> bool:
    return any(path.suffix == ".safetensors" for path in folder.iterdir())


def _in_index(index: Path) -> list[Path]:
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ConvertError(f"{index.name}: has no weight_map ({type(error).__name__}); download it again") from None
    wanted = sorted({name for name in names if isinstance(name, str)})
    if not wanted or any(Path(name).name != name or not name.endswith(".safetensors") for name in wanted):
        raise ConvertError(f"{index.name}: weight_map names no safetensors files beside it; download it again")
    return _all_there(index.parent, wanted)


def _all_there(folder: Path, names: list[str]) -> list[Path]:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ConvertError(
            f"{folder}: {len(missing)} of {len(names)} parts are missing ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}); download them"
        )
    for name in names:
        _refuse_others(folder / name)
    return [folder / name for name in names]
