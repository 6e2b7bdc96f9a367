"""An emulated accelerator: a second device with memory of its own, whose arithmetic is the CPU's.

Its device is torch.device("lazy", 0), which torch accepts everywhere and the host knows nothing about. A tensor on it
wraps a CPU tensor that nobody else holds. Moving to it and back copies, an operation on tensors of two devices is
refused, and what lies on it can be counted to the byte; torch.device("cpu", 0) does none of this.
Not emulated: streams, pinned memory, addresses, the device's own kernels.
"""

import gc
import weakref
from typing import Any

import comfy.model_management
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("lazy", 0)
CPU = torch.device("cpu")
_TO, _TO_COPY, _COPY = torch.ops.aten.to, torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default
_MADE: "weakref.WeakValueDictionary[int, DeviceTensor]" = weakref.WeakValueDictionary()


class DeviceTensor(torch.Tensor):
    """A tensor on the device; `held` is the CPU tensor behind it."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "DeviceTensor":
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=DEVICE,
        )  # fmt: skip
        made.held = held
        _MADE[id(made)] = made
        return made

    def __repr__(self) -> str:
        return f"DeviceTensor({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func.overloadpacket is _TO:
            return func.decompose(*args, **(kwargs or {}))
        return _run(func, args, kwargs or {})


class Accelerator(TorchDispatchMode):
    """While it is entered, this process has the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if any(kind not in (DeviceTensor, torch.Tensor, torch.nn.Parameter) for kind in types):
            return NotImplemented  # the host's QuantizedTensor first takes itself apart
        if func.overloadpacket is _TO:  # in inference mode it comes as it was called
            with self:
                return func.decompose(*args, **(kwargs or {}))
        return _run(func, args, kwargs or {})


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the device the one the host computes on, with memory to spare; inside `Accelerator()` only."""
    management = comfy.model_management
    monkeypatch.setattr(management, "get_torch_device", lambda: DEVICE)
    monkeypatch.setattr(management, "text_encoder_device", lambda: DEVICE)
    monkeypatch.setattr(management, "vram_state", management.VRAMState.NORMAL_VRAM)
    monkeypatch.setattr(management, "soft_empty_cache", lambda force=False: None)
    monkeypatch.setattr(management, "minimum_inference_memory", lambda: 0)
    monkeypatch.setattr(management, "extra_reserved_memory", lambda: 0)
    monkeypatch.setattr(torch, "tensor", _tensor)  # makes its result out of reach of dispatch modes
    set_free_bytes(monkeypatch, 1 << 40)


def set_free_bytes(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """What the host is told to be free beside what lies on the device now."""
    total = free + bytes_on_device()

    def answer(device: torch.device | None = None, torch_free_too: bool = False) -> int | tuple[int, int]:
        left = total - bytes_on_device()
        return (left, left) if torch_free_too else left

    monkeypatch.setattr(comfy.model_management, "get_free_memory", answer)


def bytes_left() -> int:
    """As `bytes_on_device`, once unreachable objects are gone."""
    gc.collect()
    return bytes_on_device()


def bytes_on_device() -> int:
    """The size of everything that lies on the device; storage that several tensors share is counted once."""
    storages = [tensor.held.untyped_storage() for tensor in list(_MADE.values())]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _run(func: Any, args: tuple, kwargs: dict) -> Any:
    """One operation: on the device if a tensor in it is there or it makes one there, else on the CPU."""
    if func in (_TO_COPY, _COPY):
        return _copy(func, args, kwargs)
    if func is torch.ops.aten._has_compatible_shallow_copy_type.default:
        return args[0].device == args[1].device
    leaves = tree_leaves((args, kwargs))
    there = {id(leaf.held): leaf for leaf in leaves if isinstance(leaf, DeviceTensor)}
    if not there and not any(isinstance(leaf, torch.device) and leaf == DEVICE for leaf in leaves):
        return func(*args, **kwargs)
    for leaf in leaves:
        if type(leaf) is torch.Tensor and there and leaf.dim():  # torch takes numbers from the CPU everywhere
            raise RuntimeError(f"{func}: a tensor of shape {tuple(leaf.shape)} is on the CPU, another on the device")
    result = func(*tree_map(_held, args), **tree_map(_held, kwargs))
    return tree_map(lambda value: there.get(id(value), _on_device(value)), result)


def _copy(func: Any, args: tuple, kwargs: dict) -> torch.Tensor:
    """From one device to the other, or to another dtype on the same."""
    if func is _COPY:
        _held(args[0]).copy_(_held(args[1]))
        return args[0]
    target = kwargs.get("device") or args[0].device
    copied = func(_held(args[0]), **{**kwargs, "device": CPU})
    return _on_device(copied) if target == DEVICE else copied


def _tensor(data: Any, *, device: torch.device | None = None, made: Any = torch.tensor, **kwargs: Any) -> torch.Tensor:
    return made(data, **kwargs).to(DEVICE) if device == DEVICE else made(data, device=device, **kwargs)


def _held(value: Any) -> Any:
    if isinstance(value, torch.device):
        return CPU if value == DEVICE else value
    return value.held if isinstance(value, DeviceTensor) else value


def _on_device(value: Any) -> Any:
    return DeviceTensor(value) if isinstance(value, torch.Tensor) else value
