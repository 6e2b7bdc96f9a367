"""The tensors of a LoRA file by the model's modules they are for, from its header."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .identify import WrongModelError, describe_other
from .lora_names import DOWN, UP, spellings, split_name
from .safetensors_header import SafetensorsEntry, read_header

Parts = dict[str, str]  # part as in lora_names -> name of its tensor in the file


@dataclass(frozen=True)
class LoraFile:
    """`modules` has the file's own spelling; `loose` names the tensors that are no part of a module."""

    path: Path
    entries: Mapping[str, SafetensorsEntry]
    modules: dict[str, Parts]
    loose: list[str]

    def in_model(self, names: Iterable[str]) -> tuple[dict[str, Parts], list[str]]:
        """Parts by official module names, for a model of these tensors, and the tensors for modules it lacks."""
        known = spellings(name.removesuffix(".weight") for name in names if not name.endswith(".bias"))
        fitting: dict[str, Parts] = {}
        strangers: list[str] = []
        for spelled, parts in self.modules.items():
            module = known.get(spelled)
            if module is None or parts.keys() & fitting.get(module, {}).keys():  # the same module in two spellings
                strangers += parts.values()
            else:
                fitting.setdefault(module, {}).update(parts)
        return fitting, strangers


def read_lora(path: str | Path) -> LoraFile:
    """Raises SafetensorsError, WrongModelError (no LoRA), OSError."""
    path = Path(path)
    entries, _ = read_header(path)
    modules: dict[str, Parts] = {}
    loose: list[str] = []
    for name in entries:
        found = split_name(name)
        if found is None or found[1] in modules.get(found[0], {}):
            loose.append(name)
        else:
            modules.setdefault(found[0], {})[found[1]] = name
    for parts in modules.values():
        if (UP in parts) != (DOWN in parts):  # half a pair
            loose += [parts.pop(part) for part in (UP, DOWN) if part in parts]
    modules = {spelled: parts for spelled, parts in modules.items() if parts}
    if not modules:
        raise WrongModelError(f"{path.name}: is not a LoRA but {describe_other(entries)}")
    return LoraFile(path, entries, modules, loose)
