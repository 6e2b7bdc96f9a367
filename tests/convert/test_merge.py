"""LoRA files merged into weights: equal to the sum computed densely, in every naming, and to the loader's side path."""

import pytest
import torch

from wan_gguf.convert.errors import ConvertError
from wan_gguf.convert.merge import Lora, parse_lora, with_loras
from wan_gguf.convert.plan import plan_gguf
from wan_gguf.convert.run import convert
from wan_gguf.convert.source import open_source
from wan_gguf.loaders.diffusers_names import diffusers_module
from wan_gguf.loaders.gguf import open_gguf
from wan_gguf.loaders.identify import WrongModelError
from wan_gguf.tests.convert.build import decoded, entry, wan_values, write_safetensors
from wan_gguf.tests.loaders.build import safetensors_bytes

MODULES = ("blocks.0.self_attn.q", "blocks.1.cross_attn.v", "blocks.1.ffn.2")
RANK, ALPHA = 8, 4
# Sums in float64 against sums in float32: the rounding of 8 products of about 0.05, and of the sum.
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def values() -> dict[str, torch.Tensor]:
    return wan_values()


@pytest.fixture
def source(tmp_path, values):
    return open_source(write_safetensors(tmp_path / "wan.safetensors", values, "F32"))


def pairs(values, modules=MODULES, seed=5):
    """{module: (up, down)}."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for module in modules:
        weight = values[f"{module}.weight"]
        up = torch.randn(weight.shape[0], RANK, generator=generator) * 0.2
        found[module] = up, torch.randn(RANK, weight[0].numel(), generator=generator) * 0.2
    return found


def write(path, tensors, dtypes=None):
    path.write_bytes(
        safetensors_bytes({name: entry(value, (dtypes or {}).get(name, "F32")) for name, value in tensors.items()})
    )
    return path


def kohya(module):
    return f"lora_unet_{module.replace('.', '_')}", ("lora_up.weight", "lora_down.weight", "alpha")


def lightx2v(module):
    return f"diffusion_model.{module}", ("lora_up.weight", "lora_down.weight", "alpha")


def peft(module):
    return f"diffusion_model.{module}", ("lora_B.weight", "lora_A.weight", "alpha")


def wan_fun(module):
    return f"lora_unet__{module.replace('.', '_')}", ("lora_up.weight", "lora_down.weight", "alpha")


def diffusers(module):
    return f"transformer.{diffusers_module(module)}", ("lora_B.weight", "lora_A.weight", "alpha")


def adapter(module):
    return f"base_model.model.{module}", ("lora_B.default.weight", "lora_A.default.weight", "alpha")


@pytest.mark.parametrize("naming", [kohya, lightx2v, peft, wan_fun, diffusers, adapter])
@pytest.mark.parametrize("strength", [1.0, -0.5])
def test_pairs_in_every_naming(tmp_path, source, values, naming, strength):
    tensors = {}
    for module, (up, down) in pairs(values).items():
        prefix, (up_name, down_name, alpha_name) = naming(module)
        tensors |= {
            f"{prefix}.{up_name}": up,
            f"{prefix}.{down_name}": down,
            f"{prefix}.{alpha_name}": torch.tensor(ALPHA),
        }
    dtypes = {name: "I64" for name in tensors if name.endswith("alpha")}  # as lightx2v's files have it
    lora = write(tmp_path / "a.safetensors", tensors, dtypes)
    merged, lines = with_loras(source, [Lora(lora, strength)])
    assert lines == ["a.safetensors: 3 of 3 modules, 3 differences merged"]
    found = decoded(merged)
    for name, value in values.items():
        module = name.removesuffix(".weight")
        expected = value
        if name.endswith(".weight") and module in MODULES:
            up, down = pairs(values)[module]
            expected = value + strength * ALPHA / RANK * (up @ down)
        assert (torch.from_numpy(found[name]) - expected).abs().max() <= TOLERANCE * (name != module), name


def test_without_alpha_the_pair_counts_fully(tmp_path, source, values):
    up, down = pairs(values)["blocks.1.ffn.2"]
    names = {"blocks.1.ffn.2.lora_A.weight": down, "blocks.1.ffn.2.lora_B.weight": up}
    merged, _ = with_loras(source, [Lora(write(tmp_path / "a.safetensors", names))])
    expected = values["blocks.1.ffn.2.weight"] + up @ down
    assert (torch.from_numpy(decoded(merged)["blocks.1.ffn.2.weight"]) - expected).abs().max() < TOLERANCE


def test_full_differences_of_weights_biases_norms_and_bare_parameters(tmp_path, source, values):
    generator = torch.Generator().manual_seed(4)
    wanted = {
        "diffusion_model.blocks.0.self_attn.q.diff": "blocks.0.self_attn.q.weight",
        "diffusion_model.blocks.0.self_attn.q.diff_b": "blocks.0.self_attn.q.bias",
        "diffusion_model.blocks.1.norm3.diff": "blocks.1.norm3.weight",
        "diffusion_model.blocks.0.modulation.diff": "blocks.0.modulation",
        "diffusion_model.patch_embedding.diff": "patch_embedding.weight",
        "diffusion_model.head.head.diff_b": "head.head.bias",
    }
    tensors = {name: torch.randn(values[of].shape, generator=generator) for name, of in wanted.items()}
    merged, _ = with_loras(source, [Lora(write(tmp_path / "a.safetensors", tensors), 0.5)])
    found = decoded(merged)
    for name, of in wanted.items():
        assert (torch.from_numpy(found[of]) - (values[of] + 0.5 * tensors[name])).abs().max() < TOLERANCE
    untouched = set(values) - set(wanted.values())
    assert all(torch.equal(torch.from_numpy(found[name]), values[name]) for name in untouched)


def test_a_convolution_s_pair(tmp_path, source, values):
    """The patch embedding: rows of the weight here are not rows of the matrix that a pair makes."""
    generator = torch.Generator().manual_seed(6)
    up = torch.randn(256, RANK, 1, 1, 1, generator=generator)
    down = torch.randn(RANK, 16, 1, 2, 2, generator=generator)
    tensors = {"patch_embedding.lora_up.weight": up, "patch_embedding.lora_down.weight": down}
    merged, _ = with_loras(source, [Lora(write(tmp_path / "a.safetensors", tensors))])
    expected = values["patch_embedding.weight"] + (up.flatten(1) @ down.flatten(1)).view(256, 16, 1, 2, 2)
    tensor = merged.tensors["patch_embedding.weight"]
    whole = torch.from_numpy(tensor.rows(0, tensor.n_rows)).view(expected.shape)
    assert (whole - expected).abs().max() < 1e-5  # 8 products of size 1
    assert torch.equal(torch.from_numpy(tensor.rows(13, 61)), whole.view(-1, 2)[13:61])


def test_several_files_add_up_and_are_recorded(tmp_path, source, values):
    both = {}
    for i, name in enumerate(("a", "b")):
        up, down = pairs(values, ("blocks.0.self_attn.q",), seed=i)["blocks.0.self_attn.q"]
        both[name] = up @ down
        tensors = {"blocks.0.self_attn.q.lora_B.weight": up, "blocks.0.self_attn.q.lora_A.weight": down}
        write(tmp_path / f"{name}.safetensors", tensors)
    merged, _ = with_loras(source, [Lora(tmp_path / "a.safetensors"), Lora(tmp_path / "b.safetensors", 0.25)])
    expected = values["blocks.0.self_attn.q.weight"] + both["a"] + 0.25 * both["b"]
    assert (torch.from_numpy(decoded(merged)["blocks.0.self_attn.q.weight"]) - expected).abs().max() < TOLERANCE
    convert(merged, plan_gguf(merged, "Q8_0"), tmp_path / "out.gguf")
    recorded = list(open_gguf(tmp_path / "out.gguf").metadata["wan_gguf.loras"])
    assert [text.rsplit(" ", 2)[0] for text in recorded] == ["a.safetensors strength 1", "b.safetensors strength 0.25"]


def test_a_merged_q8_0_source_is_quantised_again(tmp_path, source, values):
    """Its blocks are not copied, as those of an unchanged tensor are."""
    convert(source, plan_gguf(source, "Q8_0"), tmp_path / "q8.gguf")
    up, down = pairs(values)["blocks.1.ffn.2"]
    tensors = {"blocks.1.ffn.2.lora_A.weight": down, "blocks.1.ffn.2.lora_B.weight": up}
    quantised = open_source(tmp_path / "q8.gguf")
    merged, _ = with_loras(quantised, [Lora(write(tmp_path / "a.safetensors", tensors))])
    convert(merged, plan_gguf(merged, "Q8_0"), tmp_path / "out.gguf")
    found, before = decoded(open_source(tmp_path / "out.gguf")), decoded(quantised)
    change = torch.from_numpy(found["blocks.1.ffn.2.weight"] - before["blocks.1.ffn.2.weight"])
    largest = values["blocks.1.ffn.2.weight"].abs().max() + (up @ down).abs().max()
    assert (change - up @ down).abs().max() <= largest * (0.5 / 127 + 2**-11)
    assert (found["blocks.0.ffn.2.weight"] == before["blocks.0.ffn.2.weight"]).all()


def test_an_i2v_patch_embedding_is_left_out_and_reported(tmp_path, source, values):
    up, down = pairs(values)["blocks.1.ffn.2"]
    tensors = {
        "diffusion_model.blocks.1.ffn.2.lora_A.weight": down,
        "diffusion_model.blocks.1.ffn.2.lora_B.weight": up,
        "diffusion_model.patch_embedding.diff": torch.zeros(256, 36, 1, 2, 2),
        "diffusion_model.blocks.7.ffn.2.diff_b": torch.zeros(256),
        "something_else": torch.zeros(1),
    }
    _, (line,) = with_loras(source, [Lora(write(tmp_path / "a.safetensors", tensors))])
    assert "2 of 3 modules, 1 differences merged" in line
    assert "skipped for their shape: patch_embedding is (256, 36, 1, 2, 2), the model's (256, 16, 1, 2, 2)" in line
    assert "2 tensors unused: diffusion_model.blocks.7.ffn.2.diff_b, something_else" in line


@pytest.mark.parametrize(
    ("tensors", "error", "message"),
    [
        ({"x.y": (4, 4)}, WrongModelError, "is not a LoRA but"),
        ({"lora_unet_down_blocks_0.lora_up.weight": (4, 2), "lora_unet_down_blocks_0.lora_down.weight": (2, 4)},
         WrongModelError, r"none of its 2 tensors belongs to wan.safetensors; it looks like a LoRA for Stable"),
        ({"blocks.0.ffn.0.lora_A.weight": (2, 64), "blocks.0.ffn.0.lora_B.weight": (128, 2)}, WrongModelError,
         r"made for a model of another size: blocks.0.ffn.0 is \(128, 64\) in it and \(512, 256\) in wan.safetensors"),
        ({"blocks.0.ffn.0.lokr_w1": (4, 4)}, ConvertError, "parts of kind lokr_w1 cannot be merged"),
        ({"blocks.0.ffn.0.lora_A.weight": (2, 256), "blocks.0.ffn.0.lora_B.weight": (512, 3)}, ConvertError,
         r"\(512, 3\) and \(2, 256\) make no pair"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_merged(tmp_path, source, tensors, error, message):
    lora = write(tmp_path / "a.safetensors", {name: torch.zeros(shape) for name, shape in tensors.items()})
    with pytest.raises(error, match=message):
        with_loras(source, [Lora(lora)])


@pytest.mark.parametrize(
    ("text", "name", "strength"),
    [
        ("a.safetensors", "a.safetensors", 1.0),
        ("a.safetensors:0.5", "a.safetensors", 0.5),
        ("文件 1.safetensors:-2", "文件 1.safetensors", -2.0),
        ("C:\\loras\\a.safetensors", "C:\\loras\\a.safetensors", 1.0),
        ("C:\\loras\\a.safetensors:0.8", "C:\\loras\\a.safetensors", 0.8),
        ("a:b", "a:b", 1.0),
    ],
)
def test_the_command_line_s_spelling(text, name, strength):
    lora = parse_lora(text)
    assert (str(lora.path), lora.strength) == (name, strength)


@pytest.mark.parametrize("text", ["a.safetensors:nan", "a.safetensors:inf"])
def test_strengths_must_be_finite(text):
    with pytest.raises(ConvertError, match=r"strength of a.safetensors: got .*; a finite number is allowed"):
        parse_lora(text)
