"""Which model files a workflow names, and in which of ComfyUI's folders they are looked for.

Source: the host's nodes.py and comfy_extras (ComfyUI 0.30.0) and this pack's loaders. Most loaders call their input by
the kind of file; BY_CLASS has those whose input's name is also that of another kind, or says nothing.
"""

import os
from collections.abc import Mapping
from types import MappingProxyType

# input of any loader -> the host's folder key
BY_INPUT: Mapping[str, str] = MappingProxyType(
    {
        "audio_encoder_name": "audio_encoders",
        "bg_removal_name": "background_removal",
        "ckpt_name": "checkpoints",
        "clip_name": "text_encoders",
        "clip_name1": "text_encoders",
        "clip_name2": "text_encoders",
        "clip_name3": "text_encoders",
        "clip_name4": "text_encoders",
        "control_net_name": "controlnet",
        "encoder_name": "text_encoders",
        "existing_lora": "loras",
        "gligen_name": "gligen",
        "hypernetwork_name": "hypernetworks",
        "lora_name": "loras",
        "model_name": "diffusion_models",
        "photomaker_model_name": "photomaker",
        "style_model_name": "style_models",
        "unet_name": "diffusion_models",
        "vae_name": "vae",
    }
)
# class -> {input: the host's folder key}; counts before BY_INPUT
BY_CLASS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "CLIPVisionLoader": {"clip_name": "clip_vision"},
        "FrameInterpolationModelLoader": {"model_name": "frame_interpolation"},
        "LTXAVTextEncoderLoader": {"text_encoder": "text_encoders"},
        "LatentUpscaleModelLoader": {"model_name": "latent_upscale_models"},
        "LoadDA3Model": {"model_name": "geometry_estimation"},
        "LoadMediaPipeFaceLandmarker": {"model_name": "detection"},
        "LoadMoGeModel": {"model_name": "geometry_estimation"},
        "ModelPatchLoader": {"name": "model_patches"},
        "OpticalFlowLoader": {"model_name": "optical_flow"},
        "UpscaleModelLoader": {"model_name": "upscale_models"},
    }
)
# folders of ComfyUI's models folder that are not called by their key
OTHER_FOLDERS: Mapping[str, str] = MappingProxyType(
    {"clip": "text_encoders", "t2i_adapter": "controlnet", "unet": "diffusion_models"}
)
MODEL_ENDS = (".gguf", ".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl")  # others are built in
# Load VAE looks for files of these names, and no others, in vae_approx
_TINY_VAES = ("taehv", "lighttaew2_1", "lighttaew2_2", "lighttaehy1_5", "taeltx_2")


def model_names(workflow: dict) -> dict[str, str]:
    """Every model file that the workflow names -> the host's key of the folder in which its loader looks."""
    return {
        value: key
        for node in workflow.values()
        for name, value in node["inputs"].items()
        if isinstance(value, str)
        and value.lower().endswith(MODEL_ENDS)
        and (key := _folder_key(node["class_type"], name, value))
    }


def _folder_key(class_type: str, name: str, file: str) -> str | None:
    if class_type == "VAELoader" and os.path.splitext(file)[0] in _TINY_VAES:
        return "vae_approx"
    return BY_CLASS.get(class_type, {}).get(name) or BY_INPUT.get(name)


def folder_names(key: str) -> list[str]:
    """What the folders of a key are called below ComfyUI's models folder, the key's own name first."""
    return [key, *(name for name, other in OTHER_FOLDERS.items() if other == key)]
