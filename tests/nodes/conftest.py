"""Tiny random models of the real architectures in a folder that the host lists, and nodes as the host runs them."""

import io
from pathlib import Path

import gguf
import numpy as np
import pytest
import sentencepiece
import torch
from safetensors.torch import save_file

from wan_gguf.host.paths import register_folders
from wan_gguf.loaders.umt5 import umt5_shapes
from wan_gguf.loaders.wan_config import wan_shapes

TEXT_DIM = 64
WAN = {
    "model_type": "t2v", "in_dim": 16, "out_dim": 16, "dim": 128, "ffn_dim": 128, "freq_dim": 256, "text_dim": TEXT_DIM,
    "num_heads": 1, "num_layers": 1, "qk_norm": True, "cross_attn_norm": True,
}  # fmt: skip
UMT5 = {
    "d_model": TEXT_DIM, "d_ff": 64, "d_kv": 16, "num_heads": 4, "num_layers": 2, "relative_attention_num_buckets": 32,
}  # fmt: skip


def _random(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    values = rng.normal(0, 1 / np.sqrt(shape[-1]), shape)
    return (values + (name.endswith("weight") and "norm" in name)).astype(np.float16)


def _write_wan(path: Path) -> None:
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "wan")
    for name, shape in wan_shapes(WAN).items():
        values = _random(rng, name, shape)
        writer.add_tensor(name, values.reshape(shape[0], shape[1], *shape[3:]) if len(shape) == 5 else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _spiece_model() -> bytes:
    model = io.BytesIO()
    lines = iter(["a red circle moves left", "红色的圆形向左移动"] * 20)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines, model_writer=model, vocab_size=320, model_type="unigram",
        byte_fallback=True, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False,
        normalization_rule_name="identity", minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


def _write_umt5(path: Path) -> None:
    spiece = _spiece_model()
    size = sentencepiece.SentencePieceProcessor(model_proto=spiece).get_piece_size()
    rng = np.random.default_rng(1)
    shapes = umt5_shapes({**UMT5, "vocab_size": size})
    tensors = {name: torch.from_numpy(_random(rng, name, shape)) for name, shape in shapes.items()}
    save_file({**tensors, "spiece_model": torch.frombuffer(bytearray(spiece), dtype=torch.uint8)}, path)


def _write_vae(path: Path) -> None:
    from comfy.ldm.wan.vae import WanVAE

    vae = WanVAE(dim=8, z_dim=16, temperal_downsample=[False, True, True])  # as the host builds it
    generator = torch.Generator().manual_seed(2)
    shapes = {name: value.shape for name, value in vae.state_dict().items()}
    save_file({name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}, path)


def _write_vae22_header(path: Path) -> None:
    """What tells that a file is a Wan2.2 VAE and nothing more: the host's Load VAE could not load it."""
    names = {
        "decoder.middle.0.residual.0.gamma": (4, 1, 1, 1),
        "decoder.upsamples.0.upsamples.0.residual.2.weight": (4, 4, 3, 3, 3),
        "decoder.conv1.weight": (4, 48, 3, 3, 3),
    }
    save_file({name: torch.zeros(shape, dtype=torch.float16) for name, shape in names.items()}, path)


def _write_lora(path: Path) -> None:
    """As lightx2v writes them: every matmul of the only block, rank 4, an int64 alpha."""
    shapes = {name: shape for name, shape in wan_shapes(WAN).items() if name.startswith("blocks.") and len(shape) == 2}
    generator = torch.Generator().manual_seed(3)
    lora = {}
    for name, (n, k) in shapes.items():
        module = f"diffusion_model.{name.removesuffix('.weight')}"
        lora[f"{module}.lora_up.weight"] = torch.randn(n, 4, generator=generator)
        lora[f"{module}.lora_down.weight"] = torch.randn(4, k, generator=generator)
        lora[f"{module}.alpha"] = torch.tensor(1)
    save_file(lora, path)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """wan.gguf, umt5.safetensors, vae.safetensors, lora.safetensors; the head of vae22.safetensors; files that are not
    what they say."""
    folder = tmp_path_factory.mktemp("models")
    _write_wan(folder / "wan.gguf")
    _write_umt5(folder / "umt5.safetensors")
    _write_vae(folder / "vae.safetensors")
    _write_lora(folder / "lora.safetensors")
    _write_vae22_header(folder / "vae22.safetensors")
    (folder / "umt5.gguf").write_bytes((folder / "umt5.safetensors").read_bytes())  # the header counts, not the name
    (folder / "notes.gguf").write_text("shopping list")
    torch.save({"lora_up.weight": torch.zeros(1)}, folder / "pickle.safetensors")
    (folder / "truncated.gguf").write_bytes((folder / "wan.gguf").read_bytes()[:4000])
    return folder


@pytest.fixture
def host_folders(model_folder):
    """The host lists that folder for diffusion models, text encoders, VAEs and LoRAs while a test runs."""
    import folder_paths

    keys = ("diffusion_models", "text_encoders", "vae", "loras")
    register_folders()
    for key in keys:
        folder_paths.add_model_folder_path(key, str(model_folder))
    folder_paths.filename_list_cache.clear()
    yield model_folder
    for key in keys:
        folder_paths.folder_names_and_paths[key][0].remove(str(model_folder))
    folder_paths.filename_list_cache.clear()


@pytest.fixture
def as_the_host_runs_nodes():
    """Inference mode, and no model left loaded afterwards."""
    import comfy.model_management

    with torch.inference_mode():
        yield
        comfy.model_management.unload_all_models()


@pytest.fixture(autouse=True)
def auto_is_float32(monkeypatch):
    """On every machine: where bf16 is native, "auto" would take it, and these tests compare with float32."""
    monkeypatch.setattr("wan_gguf.host.models.has_native_bf16", lambda: False)


@pytest.fixture(autouse=True)
def user_folder(tmp_path_factory, monkeypatch):
    """The host's user folder, where the embedding cache is; a new one for every test."""
    import folder_paths

    folder = tmp_path_factory.mktemp("user")
    monkeypatch.setattr(folder_paths, "user_directory", str(folder))
    monkeypatch.delenv("WAN_GGUF_CACHE_MB", raising=False)
    return folder
