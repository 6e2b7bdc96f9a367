"""The host's model patcher for models with packed weights.

The host applies a LoRA by rewriting the weight (full load), by a function on the dense weight (low VRAM) or by
requantising (dynamic VRAM). None of these suits packed blocks, so patches on packed weights go to
`weight_wrapper_patches`, which all of the host's load paths attach to the layer and copy to clones. Patches on dense
parameters (biases, norms, modulation) take the host's own way.
"""

from collections.abc import Mapping
from typing import Any

import comfy.hooks
import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from comfy.model_patcher import LazyCastingParam, ModelPatcher, ModelPatcherDynamic

from ..ops.dequantize import dequantize
from .operations import PackedWeightMixin
from .patches import HookPatch, PackedPatch


def adopt(patcher: ModelPatcher) -> ModelPatcher:
    """Turn a patcher the host made into ours, in place: same object, same state, other methods."""
    patcher.__class__ = PackedModelPatcherDynamic if patcher.is_dynamic() else PackedModelPatcher
    return patcher


def make_patcher(model: torch.nn.Module, load_device, offload_device, disable_dynamic: bool = False) -> ModelPatcher:
    """A patcher of the kind the host would choose: dynamic VRAM where it is on, unless disabled."""
    host_class = ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    return adopt(host_class(model, load_device=load_device, offload_device=offload_device))


def packed_module(model: torch.nn.Module, key: str) -> PackedWeightMixin | None:
    """The layer whose packed weight has this name in the model's state dict, if it is one."""
    owner, _, attribute = key.rpartition(".")
    if attribute != "weight":
        return None
    try:
        module = comfy.utils.get_attr(model, owner)
    except AttributeError:
        return None
    return module if isinstance(module, PackedWeightMixin) and module.packed is not None else None


class _PackedPatches:
    """What both of our patchers add to the host's."""

    def add_patches(self, patches: Mapping, strength_patch: float = 1.0, strength_model: float = 1.0) -> list:
        """As the host's: returns the keys that fit the model."""
        taken, others = [], {}
        for name, value in patches.items():
            key, offset, function = (name, None, None) if isinstance(name, str) else (*name, None, None)[:3]
            module = packed_module(self.model, key)
            if module is None:
                others[name] = value
                continue
            patch = (strength_patch, value, strength_model, offset, function)
            self.add_weight_wrapper(key, PackedPatch(key, patch, module.packed.shape))
            taken.append(name)
        return taken + super().add_patches(others, strength_patch, strength_model)

    def get_key_patches(self, filter_prefix: str | None = None) -> dict:
        """As the host's, for nodes that merge or save models: weights with all of their patches, ours included."""
        found = super().get_key_patches(filter_prefix)
        for key, functions in self.weight_wrapper_patches.items():
            if key in found:
                found[key] = found[key] + [fn.patch for fn in functions if isinstance(fn, PackedPatch)]
        return found

    def patch_weight_to_device(self, key: str, *args: Any, return_weight: bool = False, **kwargs: Any):
        """As the host's; asked for the weight of a packed layer, for saving, it decodes and applies the patches."""
        module = packed_module(self.model, key) if return_weight else None
        if module is None:
            return super().patch_weight_to_device(key, *args, return_weight=return_weight, **kwargs)
        weight = dequantize(module.packed)
        for function in self.weight_wrapper_patches.get(key, []):
            weight = function(weight)
        return weight.to(module.weight.dtype)

    def model_state_dict_for_saving(self, model: torch.nn.Module | None = None, prefix: str = "") -> dict:
        """As the host's: weights that become real, one at a time, while the file is written. Packed ones come dense."""
        saved = super().model_state_dict_for_saving(model, prefix)
        for name in saved:
            module = packed_module(self.model, prefix + name)
            if module is not None:  # the host's lazy parts of a QuantizedTensor crash safetensors' writer
                stand_in = torch.empty(module.packed.shape, dtype=module.weight.dtype)
                saved[name] = LazyCastingParam(self, prefix + name, stand_in)
        return saved

    def clone(self, *args: Any, **kwargs: Any) -> ModelPatcher:
        """As the host's, which makes a plain patcher when it switches dynamic VRAM off."""
        return adopt(super().clone(*args, **kwargs))

    def unpatch_model(self, device_to: torch.device | None = None, unpatch_weights: bool = True) -> None:
        """As the host's; the layers also give back what they made of their weights and LoRAs."""
        super().unpatch_model(device_to, unpatch_weights)
        if unpatch_weights:
            for module in self.model.modules():
                if isinstance(module, PackedWeightMixin):
                    module.release()

    def pin_weight_to_device(self, key: str) -> None:
        """Mapped file pages are not pinned: the driver refuses them or copies them into locked memory."""
        if packed_module(self.model, key) is None:
            super().pin_weight_to_device(key)

    def patch_hook_weight_to_device(self, hooks, combined_patches, key, original_weights, memory_counter) -> None:
        """A hook's LoRA on a packed weight goes on the layer for as long as the hook is active."""
        module = packed_module(self.model, key)
        if module is None or key not in combined_patches:
            super().patch_hook_weight_to_device(hooks, combined_patches, key, original_weights, memory_counter)
            return
        attached = [HookPatch(key, tuple(patch), module.packed.shape) for patch in combined_patches[key]]
        for patch in attached:
            patch.move_to(module.weight.device)
        module.weight_function = [*module.weight_function, *attached]
        if self.hook_mode == comfy.hooks.EnumHookMode.MaxSpeed:  # the host calls us back from this cache
            self.cached_hook_patches.setdefault(hooks, {})[key] = attached

    def patch_cached_hook_weights(self, cached_weights, key, memory_counter) -> None:
        """As above, for a hook that was active before."""
        module = packed_module(self.model, key)
        if module is None:
            super().patch_cached_hook_weights(cached_weights, key, memory_counter)
            return
        self._detach_hooks({key})
        module.weight_function = [*module.weight_function, *cached_weights[key]]

    def unpatch_hooks(self, whitelist_keys_set: set[str] | None = None) -> None:
        """As the host's: all hooks off, or those on the given keys."""
        self._detach_hooks(whitelist_keys_set)
        super().unpatch_hooks(whitelist_keys_set)

    def _detach_hooks(self, keys: set[str] | None) -> None:
        for module in self.model.modules():
            functions = getattr(module, "weight_function", ())
            if any(isinstance(fn, HookPatch) and (not keys or fn.key in keys) for fn in functions):
                module.weight_function = [
                    fn for fn in functions if not (isinstance(fn, HookPatch) and (not keys or fn.key in keys))
                ]


class PackedModelPatcher(_PackedPatches, ModelPatcher):
    """Whole-model and low-VRAM loading."""

    def unpatch_model(self, device_to: torch.device | None = None, unpatch_weights: bool = True) -> None:
        """As the host's, which leaves the LoRAs of a wholly loaded model on the device."""
        super().unpatch_model(device_to, unpatch_weights)
        if unpatch_weights and device_to is not None:
            for module in self.model.modules():
                comfy.model_patcher.move_weight_functions(module, device_to)


class PackedModelPatcherDynamic(_PackedPatches, ModelPatcherDynamic):
    """Dynamic VRAM. On the CPU the host has no such thing, and this class makes a PackedModelPatcher instead."""

    def __new__(cls, model=None, load_device=None, offload_device=None, size=0, weight_inplace_update=False):
        if load_device is not None and comfy.model_management.is_device_cpu(load_device):
            return PackedModelPatcher(model, load_device, offload_device, size, weight_inplace_update)
        return super().__new__(cls, model, load_device, offload_device, size, weight_inplace_update)

    def load(self, *args: Any, **kwargs: Any) -> None:
        """As the host's, which loads small layers (16 KiB or less) dense and forgets their wrapper patches."""
        super().load(*args, **kwargs)
        for name, module in self.model.named_modules():
            if isinstance(module, PackedWeightMixin) and not hasattr(module, "_v"):
                module.weight_function = list(self.weight_wrapper_patches.get(f"{name}.weight", []))
