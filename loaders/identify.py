"""What model a set of tensor names is; metadata strings are not trusted (files of other models say "wan" too)."""

from collections.abc import Iterable, Mapping

Shapes = Mapping[str, tuple[int, ...]]

WAN_PREFIXES = ("model.diffusion_model.", "diffusion_model.")

_NO_WAN = "this pack runs Wan2.1 and Wan2.2 only"
_NO_UMT5 = "Wan needs the UMT5-XXL text encoder"

# A name of a tensor that only this kind of model has -> what the file is, and what to do with it; the first that occurs
# counts. The names of other families are those by which the host's model_detection.py knows them.
_OTHERS = (
    ("blocks.0.self_attn.q.lora_A.weight", "a Wan LoRA", "load it with the LoRA loader"),
    ("decoder.mid.block_1.conv1.weight", "an image VAE, as of Stable Diffusion or Flux", "use a Wan VAE"),
    ("decoder.conv_in.weight", "a VAE in diffusers naming", "use the VAE file made for ComfyUI"),
    (
        "condition_embedder.time_embedder.linear_1.weight",
        "a video model in diffusers naming",
        "use the Wan file made for ComfyUI",
    ),
    ("vace_blocks.0.self_attn.q.weight", "a Wan VACE module, which is not supported", "use a T2V, I2V or TI2V model"),
    (
        "blocks.0.audio_cross_attn.proj.weight",
        "a Wan MultiTalk module, which is not supported",
        "use a T2V, I2V or TI2V model",
    ),
    (
        "blocks.0.pos_embedding.embedding.weight",
        "a UMT5 text encoder in the official repository's naming, without tokenizer",
        "use a UMT5 GGUF, or the safetensors file made for ComfyUI",
    ),
    ("txt_in.individual_token_refiner.blocks.0.norm1.weight", "a Hunyuan video model", _NO_WAN),
    ("double_blocks.0.img_attn_qkv.weight", "a Hunyuan video model", _NO_WAN),
    ("distilled_guidance_layer.in_proj.weight", "a Chroma model", _NO_WAN),
    ("double_blocks.0.img_attn.qkv.weight", "a Flux model", _NO_WAN),
    ("patchify_proj.weight", "an LTX video model", _NO_WAN),
    ("txt_norm.weight", "a Qwen-Image model", _NO_WAN),
    ("joint_blocks.0.context_block.attn.qkv.weight", "a Stable Diffusion 3 model", _NO_WAN),
    ("cap_embedder.1.weight", "a Lumina 2 or Z-Image model", _NO_WAN),
    ("t5_yproj.weight", "a Mochi video model", _NO_WAN),
    ("video_patch_proj.weight", "a MiniMax video model", _NO_WAN),
    ("blocks.0.norm1.linear.weight", "a CogVideoX model", _NO_WAN),
    ("blocks.0.mlp.layer1.weight", "a Cosmos model", _NO_WAN),
    ("caption_projection.0.linear.weight", "a HiDream model", _NO_WAN),
    ("double_layers.0.attn.w1q.weight", "an AuraFlow model", _NO_WAN),
    ("visual_transformer_blocks.0.cross_attention.key_norm.weight", "a Kandinsky 5 model", _NO_WAN),
    ("transformer_blocks.0.attn.to_q.weight", "a diffusion model of another family", _NO_WAN),
    ("transformer_blocks.0.attn1.to_q.weight", "a diffusion model of another family", _NO_WAN),
    ("input_blocks.0.0.weight", "a Stable Diffusion model", _NO_WAN),
    ("text_model.encoder.layers.0.self_attn.q_proj.weight", "a CLIP text encoder", _NO_UMT5),
    ("transformer.resblocks.0.attn.in_proj_weight", "a CLIP text encoder", _NO_UMT5),
    ("v.blk.0.attn_q.weight", "a vision encoder", _NO_UMT5),
    ("model.layers.0.self_attn.q_proj.weight", "a language model", _NO_UMT5),
    ("blk.0.attn_q.weight", "a language model", _NO_UMT5),
    ("blk.0.attn_qkv.weight", "a language model", _NO_UMT5),
)
_OURS = {
    "wan": ("a Wan transformer", "load it with the Wan GGUF model loader"),
    "umt5": ("a UMT5 text encoder", "load it with the Wan GGUF text encoder loader"),
    "vae": ("a Wan VAE", "load it with the Load VAE node"),
}
_LORA_ENDINGS = (".lora_A.weight", ".lora_down.weight", ".lora_B.weight", ".lora_up.weight")


class WrongModelError(ValueError):
    """A readable file that holds another model than the one asked for; the text says what it is and what to do."""


def wan_prefix(names: Iterable[str]) -> str:
    """The prefix under which a Wan transformer's tensors stand: one of WAN_PREFIXES or nothing."""
    prefixes = {prefix for name in names for prefix in WAN_PREFIXES if name.startswith(prefix)}
    return next((prefix for prefix in WAN_PREFIXES if prefix in prefixes), "")


def identify(names: Iterable[str]) -> str:
    """ "wan", "umt5", "vae" (a Wan VAE) or "unknown"."""
    names = set(names)
    prefix = wan_prefix(names)
    if f"{prefix}head.modulation" in names and f"{prefix}blocks.0.self_attn.q.weight" in names:
        return "wan"
    if "decoder.middle.0.residual.0.gamma" in names:
        return "vae"
    if _has_umt5_encoder(names):
        return "umt5"
    return "unknown"


def _has_umt5_encoder(names: set[str]) -> bool:
    """UMT5 has a relative bias in every block, T5 only in the first."""
    first, second = (f"encoder.block.{i}.layer.0.SelfAttention.relative_attention_bias.weight" for i in (0, 1))
    more = "encoder.block.1.layer.0.SelfAttention.q.weight"
    if {first, "enc.blk.0.attn_rel_b.weight"} & names:
        alone = more not in names and "enc.blk.1.attn_q.weight" not in names
        return alone or bool({second, "enc.blk.1.attn_rel_b.weight"} & names)
    return False


def is_t5(names: Iterable[str]) -> bool:
    """True for any T5 encoder, UMT5 or not."""
    roots = ("enc.blk.0.attn_q.weight", "encoder.block.0.layer.0.SelfAttention.q.weight")
    return any(name in roots for name in names)


def other_model(names: Iterable[str]) -> tuple[str, str] | None:
    """What a file is that is not the model asked for, and what to do with it; None for one that nobody knows."""
    names = set(names)
    kind = identify(names)
    if kind in _OURS:
        return _OURS[kind]
    if is_t5(names):
        return (
            "a T5 text encoder, not UMT5 (it has a relative bias in its first block only)",
            "use umt5-xxl; T5-XXL is for Flux, Stable Diffusion 3 and LTX",
        )
    if any(name.endswith(_LORA_ENDINGS) for name in names):
        return "a LoRA", "load it with the LoRA loader"
    for mark, what, remedy in _OTHERS:
        if any(name == mark or name.endswith("." + mark) for name in names):
            return what, remedy
    return None


def describe_other(names: Iterable[str]) -> str:
    """A phrase that completes "the file is ..." for a file that is not the model asked for, with the remedy."""
    names = set(names)
    found = other_model(names)
    if found is not None:
        return "; ".join(found)
    shown = ", ".join(sorted(names)[:3]) or "none"
    return f"not a model this pack knows (first tensors: {shown}); use a Wan, UMT5 or Wan VAE file"
