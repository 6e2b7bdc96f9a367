"""What model a set of tensor names is; metadata strings are not trusted (files of other models say "wan" too)."""

from collections.abc import Iterable, Mapping

Shapes = Mapping[str, tuple[int, ...]]

WAN_PREFIXES = ("model.diffusion_model.", "diffusion_model.")

# A name of a tensor that only this kind of model has -> what the file is, and what to do with it.
_OTHERS = (
    ("blocks.0.self_attn.q.lora_A.weight", "a Wan LoRA", "load it with the LoRA loader"),
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
    ("double_blocks.0.img_attn.qkv.weight", "a Flux model", "use a Wan model"),
    ("double_blocks.0.img_attn_qkv.weight", "a Hunyuan video model", "use a Wan model"),
    ("transformer_blocks.0.attn.to_q.weight", "a diffusion model of another family", "use a Wan model"),
    ("input_blocks.0.0.weight", "a Stable Diffusion model", "use a Wan model"),
    ("text_model.encoder.layers.0.self_attn.q_proj.weight", "a CLIP text encoder", "use a UMT5 text encoder"),
    ("model.layers.0.self_attn.q_proj.weight", "a language model", "use a Wan or UMT5 model"),
    ("v.blk.0.attn_q.weight", "a vision encoder", "use a Wan or UMT5 model"),
    ("blk.0.attn_q.weight", "a language model", "use a Wan or UMT5 model"),
    ("blk.0.attn_qkv.weight", "a language model", "use a Wan or UMT5 model"),
)
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


def describe_other(names: Iterable[str]) -> str:
    """A phrase that completes "the file is ..." for a file that is not the model asked for, with the remedy."""
    names = set(names)
    kind = identify(names)
    if kind == "wan":
        return "a Wan transformer; load it with the Wan GGUF model loader"
    if kind == "umt5":
        return "a UMT5 text encoder; load it with the Wan GGUF text encoder loader"
    if kind == "vae":
        return "a Wan VAE; load it with the Load VAE node"
    if is_t5(names):
        return "a T5 text encoder, not UMT5 (it has a relative bias in its first block only); use umt5-xxl"
    if any(name.endswith(_LORA_ENDINGS) for name in names):
        return "a LoRA; load it with the LoRA loader"
    for mark, what, remedy in _OTHERS:
        if any(name == mark or name.endswith("." + mark) for name in names):
            return f"{what}; {remedy}"
    shown = ", ".join(sorted(names)[:3]) or "none"
    return f"not a model this pack knows (first tensors: {shown}); use a Wan, UMT5 or Wan VAE file"
