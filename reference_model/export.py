"""Stage 4: write the trained weights as the files the pack ships. `python3 reference_model/export.py`

Names, shapes and types are those of the published files: the transformer as a city96-style GGUF (matrices F16, the rest
F32, a true 5-D patch embedding), the encoder in llama.cpp's naming with its tokenizer inside, the VAE as safetensors.
"""

import environment

environment.enter(__file__)

import argparse
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sentencepiece import SentencePieceProcessor

from text_model import load_vocabulary
from training import WORK

FILES = Path(__file__).parent / "files"
LICENSE = "Apache-2.0"
F16, Q8_0 = gguf.LlamaFileType.MOSTLY_F16, gguf.LlamaFileType.MOSTLY_Q8_0
T5_NAMES = {
    "shared.weight": "token_embd.weight",
    "encoder.final_layer_norm.weight": "enc.output_norm.weight",
}
T5_LEAVES = {
    "layer.0.SelfAttention.q.weight": "attn_q.weight",
    "layer.0.SelfAttention.k.weight": "attn_k.weight",
    "layer.0.SelfAttention.v.weight": "attn_v.weight",
    "layer.0.SelfAttention.o.weight": "attn_o.weight",
    "layer.0.SelfAttention.relative_attention_bias.weight": "attn_rel_b.weight",
    "layer.0.layer_norm.weight": "attn_norm.weight",
    "layer.1.DenseReluDense.wi_0.weight": "ffn_gate.weight",
    "layer.1.DenseReluDense.wi_1.weight": "ffn_up.weight",
    "layer.1.DenseReluDense.wo.weight": "ffn_down.weight",
    "layer.1.layer_norm.weight": "ffn_norm.weight",
}


def start(name: str, architecture: str, title: str, file_type: gguf.LlamaFileType = F16) -> gguf.GGUFWriter:
    writer = gguf.GGUFWriter(FILES / f"{name}.part", architecture)
    writer.add_name(title)
    writer.add_license(LICENSE)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(file_type)
    return writer


def finish(writer: gguf.GGUFWriter, name: str) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (FILES / f"{name}.part").replace(FILES / name)
    print(name, (FILES / name).stat().st_size, "bytes")


def add(writer: gguf.GGUFWriter, name: str, weight: torch.Tensor, half: bool) -> None:
    writer.add_tensor(name, weight.float().numpy().astype(np.float16 if half else np.float32))


def export_dit() -> None:
    name = "wan_reference_dit_f16.gguf"
    writer = start(name, "wan", "Wan GGUF reference model, T2V transformer")
    for key, weight in load_file(WORK / "dit.safetensors").items():
        add(writer, key, weight, half=weight.ndim == 2)
    finish(writer, name)


def export_low_noise() -> None:
    """The second expert: its blocks' matrices in Q8_0, which keeps all files together below 32 MiB."""
    name = "wan_reference_dit_low_noise_q8_0.gguf"
    writer = start(name, "wan", "Wan GGUF reference model, T2V transformer, low-noise expert", Q8_0)
    for key, weight in load_file(WORK / "dit_low_noise.safetensors").items():
        if weight.ndim == 2 and key.startswith("blocks."):
            rows = gguf.quants.quantize(weight.float().numpy(), gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(key, rows, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            add(writer, key, weight, half=weight.ndim == 2)
    finish(writer, name)


def export_text() -> None:
    name = "wan_reference_umt5_f16.gguf"
    writer = start(name, "t5encoder", "Wan GGUF reference model, bilingual UMT5 encoder")
    weights = load_file(WORK / "text.safetensors")
    layers = 1 + max(int(key.split(".")[2]) for key in weights if key.startswith("encoder.block."))
    width = weights["shared.weight"].shape[1]
    writer.add_context_length(512)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(weights["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"].shape[0])
    writer.add_block_count(layers)
    heads = weights["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"].shape[1]
    writer.add_head_count(heads)
    writer.add_key_length(64)
    writer.add_value_length(64)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_relative_attn_buckets_count(32)
    add_tokenizer(writer, load_vocabulary())
    for key, weight in weights.items():
        if key in T5_NAMES:
            target = T5_NAMES[key]
        else:
            _, _, block, leaf = key.split(".", 3)
            target = f"enc.blk.{block}.{T5_LEAVES[leaf]}"
        add(writer, target, weight, half=weight.ndim == 2 and "attn_rel_b" not in target)
    finish(writer, name)


def add_tokenizer(writer: gguf.GGUFWriter, vocabulary: SentencePieceProcessor) -> None:
    """tokenizer.ggml.* as llama.cpp's converter writes it for T5: pieces, scores and types of a unigram model."""
    count = range(vocabulary.get_piece_size())
    kinds = (
        (vocabulary.is_unknown, gguf.TokenType.UNKNOWN),
        (vocabulary.is_control, gguf.TokenType.CONTROL),
        (vocabulary.is_unused, gguf.TokenType.UNUSED),
        (vocabulary.is_byte, gguf.TokenType.BYTE),
    )
    types = [next((kind for test, kind in kinds if test(i)), gguf.TokenType.NORMAL) for i in count]
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([vocabulary.id_to_piece(i) for i in count])
    writer.add_token_scores([vocabulary.get_score(i) for i in count])
    writer.add_token_types(types)
    writer.add_add_space_prefix(True)
    writer.add_remove_extra_whitespaces(True)
    writer.add_eos_token_id(vocabulary.eos_id())
    writer.add_pad_token_id(vocabulary.pad_id())
    writer.add_unk_token_id(vocabulary.unk_id())


def export_vae() -> None:
    name = "wan_reference_vae.safetensors"
    weights = {key: weight.half().contiguous() for key, weight in load_file(WORK / "vae.safetensors").items()}
    save_file(weights, FILES / f"{name}.part", metadata={"license": LICENSE, "format": "pt"})
    (FILES / f"{name}.part").replace(FILES / name)
    print(name, (FILES / name).stat().st_size, "bytes")


PARTS = {"dit": export_dit, "low-noise": export_low_noise, "text": export_text, "vae": export_vae}

if __name__ == "__main__":
    FILES.mkdir(exist_ok=True)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS), help="write these files only")
    for part in parser.parse_args().only:
        PARTS[part]()
