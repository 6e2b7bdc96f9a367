"""Wan GGUF Convert: from a file of the host's folders to one that the loaders list, or to nothing at all."""

import comfy.model_management
import comfy.utils
import folder_paths
import pytest
import torch

from wan_gguf.convert import pieces
from wan_gguf.convert.merge import Lora, with_loras
from wan_gguf.convert.plan import plan_gguf
from wan_gguf.convert.run import convert
from wan_gguf.convert.source import open_source
from wan_gguf.host.paths import list_models, register_folders
from wan_gguf.loaders.describe import describe
from wan_gguf.nodes.conversion import target_name
from wan_gguf.nodes.convert_to_gguf import WanGGUFConvert
from wan_gguf.nodes.model_loader import WanGGUFModelLoader
from wan_gguf.tests.convert.build import wan_values, write_safetensors, write_shards

SOURCE = "diffusion_models/wan2.2_high_noise_bf16.safetensors"


@pytest.fixture(scope="module")
def values() -> dict[str, torch.Tensor]:
    return wan_values()


@pytest.fixture
def folder(tmp_path, monkeypatch, values):
    """models/diffusion_models with a model, the only folder of its kind; models/loras with a LoRA."""
    diffusion, loras = tmp_path / "diffusion_models", tmp_path / "loras"
    diffusion.mkdir()
    loras.mkdir()
    write_safetensors(diffusion / SOURCE.partition("/")[2], values, "BF16")
    change = torch.full_like(values["blocks.0.ffn.0.weight"], 0.5)
    write_safetensors(loras / "half.safetensors", {"diffusion_model.blocks.0.ffn.0.diff": change})
    registry = {
        "diffusion_models": ([str(diffusion)], {".safetensors"}),
        "text_encoders": ([], {".safetensors"}),
        "vae": ([], {".safetensors"}),
        "loras": ([str(loras)], {".safetensors"}),
    }
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", registry)
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    monkeypatch.setattr(pieces, "PIECE_ELEMENTS", 1 << 14)  # several pieces to a tensor
    register_folders()
    return diffusion


@pytest.fixture
def bars(monkeypatch):
    """What the host's progress bar is told: (value, total)."""
    seen = []
    monkeypatch.setattr(
        comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, preview, node_id: seen.append((value, total))
    )
    return seen


def run(source_name=SOURCE, file_type="Q8_0", file_name="", **settings):
    return WanGGUFConvert.execute(source_name=source_name, file_type=file_type, file_name=file_name, **settings)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_is_the_converter_s_and_the_loaders_list_it(folder, tmp_path, bars):
    assert list_models("unet_gguf")[:1] != ["wan2.2_high_noise-Q8_0.gguf"]
    output = run()
    assert output.args == ("wan2.2_high_noise-Q8_0.gguf",)
    assert list_models("unet_gguf")[0] == "wan2.2_high_noise-Q8_0.gguf"
    assert WanGGUFModelLoader.validate_inputs(model_name="wan2.2_high_noise-Q8_0.gguf") is True
    source = open_source(folder / SOURCE.partition("/")[2])
    convert(source, plan_gguf(source, "Q8_0"), tmp_path / "expected.gguf")
    assert (folder / output.args[0]).read_bytes() == (tmp_path / "expected.gguf").read_bytes()
    assert bars[-1] == (source.nbytes, source.nbytes)


def test_the_node_shows_size_share_types_and_time(folder):
    lines = run().ui.as_dict()["text"][0].splitlines()
    size = (folder / "wan2.2_high_noise-Q8_0.gguf").stat().st_size
    assert lines[0] == "wan2.2_high_noise-Q8_0.gguf"
    assert lines[1].startswith(f"{size / 1e6:.1f} MB, ")
    assert "of the source, in " in lines[1]
    assert sorted(line.partition(":")[0] for line in lines[2:]) == ["BF16", "F32", "Q8_0"]


def test_a_chosen_name_gets_its_ending(folder):
    assert run(file_name=" my model ").args == ("my model.gguf",)
    assert run(file_name="模型.gguf").args == ("模型.gguf",)
    assert names(folder) == ["my model.gguf", SOURCE.partition("/")[2], "模型.gguf"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("diffusion_models/wan/Wan2.2-TI2V-5B_fp16.safetensors", "Wan2.2-TI2V-5B-Q4_0.gguf"),
        ("diffusion_models/wan2.2_t2v_fp8_scaled.safetensors", "wan2.2_t2v-Q4_0.gguf"),
        ("text_encoders/umt5-xxl-encoder-Q8_0.gguf", "umt5-xxl-encoder-Q4_0.gguf"),
        ("diffusion_models/wan\\a-BF16.gguf", "a-Q4_0.gguf"),
        ("diffusion_models/fp16.safetensors", "fp16-Q4_0.gguf"),
        ("diffusion_models/Wan2.2/high/diffusion_pytorch_model.safetensors.index.json", "Wan2.2-high-Q4_0.gguf"),
        ("diffusion_models/model.safetensors.index.json", "model-Q4_0.gguf"),
    ],
)
def test_an_empty_name_is_made_of_the_source_s_and_the_type(source, expected):
    assert target_name("", source, "Q4_0") == expected


@pytest.mark.parametrize("name", ["../out", "sub/out", "..\\out", "/etc/out", "C:out", "..", "out.safetensors", "nul"])
def test_a_name_that_leads_elsewhere_is_refused(folder, tmp_path, name):
    before = sorted(tmp_path.rglob("*"))
    assert str(WanGGUFConvert.validate_inputs(file_name=name)).startswith("file_name: ")
    with pytest.raises(ValueError, match="file_name: "):
        run(file_name=name)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("stop_at", [1, 7, 60])
def test_an_interrupt_leaves_no_file_and_the_next_run_works(folder, monkeypatch, stop_at):
    before, seen = names(folder), []
    check = comfy.model_management.throw_exception_if_processing_interrupted

    def interrupting():
        seen.append(names(folder))
        if len(seen) == stop_at:
            comfy.model_management.interrupt_current_processing()
        check()

    with monkeypatch.context() as patch:
        patch.setattr(comfy.model_management, "throw_exception_if_processing_interrupted", interrupting)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            run()
    assert len(seen) == stop_at
    assert "wan2.2_high_noise-Q8_0.gguf.part" in seen[-1]
    assert names(folder) == before
    run()
    assert describe(folder / "wan2.2_high_noise-Q8_0.gguf").problem is None


def test_an_existing_file_stays_unless_overwrite_is_on(folder):
    target = folder / "out.gguf"
    target.write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"out\.gguf: exists; choose another file name, or switch overwrite on"):
        run(file_name="out")
    assert target.read_bytes() == b"something else"
    run(file_name="out", overwrite=True)
    assert describe(target).kind == "wan"


def test_a_full_disk_is_noticed_before_anything_is_written(folder, monkeypatch):
    before = names(folder)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(ValueError, match=r"0\.00 GB free; make room"):
        run()
    assert names(folder) == before


def test_other_models_are_refused_when_the_workflow_is_queued(folder, values):
    write_safetensors(folder / "flux.safetensors", {"double_blocks.0.img_attn.qkv.weight": torch.zeros(4, 4)})
    (folder / "pickle.safetensors").write_bytes(b"PK\x03\x04" + bytes(100))
    assert "is a Flux model" in WanGGUFConvert.validate_inputs("diffusion_models/flux.safetensors", "")
    assert "is a pickle" in WanGGUFConvert.validate_inputs("diffusion_models/pickle.safetensors", "")
    assert "there is no file" in WanGGUFConvert.validate_inputs("diffusion_models/gone.safetensors", "")
    assert WanGGUFConvert.validate_inputs(SOURCE, "") is True
    assert WanGGUFConvert.validate_inputs() is True  # both linked
    with pytest.raises(ValueError, match="is a Flux model"):
        run("diffusion_models/flux.safetensors")


def test_a_damaged_weight_is_named_and_no_file_is_left(folder, values):
    damaged = {**values, "blocks.1.ffn.2.weight": values["blocks.1.ffn.2.weight"].clone()}
    damaged["blocks.1.ffn.2.weight"][3, 4] = float("nan")
    write_safetensors(folder / "damaged.safetensors", damaged)
    before = names(folder)
    with pytest.raises(ValueError, match=r"tensor blocks\.1\.ffn\.2\.weight: 1 of \d+ numbers are not"):
        run("diffusion_models/damaged.safetensors")
    assert names(folder) == before


def test_a_model_in_parts_is_chosen_by_its_index(folder, values):
    write_shards(folder / "Wan2.2" / "high_noise_model", values, dtype="BF16")
    index = "diffusion_models/Wan2.2/high_noise_model/diffusion_pytorch_model.safetensors.index.json"
    assert WanGGUFConvert.validate_inputs(index, "") is True
    assert run(index, plain=True).args == ("Wan2.2-high_noise_model-Q8_0.gguf",)
    run(plain=True)
    whole, parts = (folder / f"{name}-Q8_0.gguf" for name in ("wan2.2_high_noise", "Wan2.2-high_noise_model"))
    assert whole.read_bytes() == parts.read_bytes()


def test_a_lora_is_merged_with_its_strength_and_reported(folder, tmp_path):
    output = run(lora_name="half.safetensors", lora_strength=-0.5)
    source = open_source(folder / SOURCE.partition("/")[2])
    merged, _ = with_loras(source, [Lora(tmp_path / "loras" / "half.safetensors", -0.5)])
    convert(merged, plan_gguf(merged, "Q8_0"), tmp_path / "expected.gguf")
    assert (folder / output.args[0]).read_bytes() == (tmp_path / "expected.gguf").read_bytes()
    assert "half.safetensors: 1 of 1 modules, 1 differences merged" in output.ui.as_dict()["text"][0]


def test_a_changed_source_or_lora_is_converted_again(folder, tmp_path, values):
    settings = {"source_name": SOURCE, "file_type": "Q8_0", "file_name": ""}
    before = WanGGUFConvert.fingerprint_inputs(**settings)
    with_lora = WanGGUFConvert.fingerprint_inputs(**settings, lora_name="half.safetensors")
    run()
    assert WanGGUFConvert.fingerprint_inputs(**settings) == before != with_lora
    write_safetensors(folder / SOURCE.partition("/")[2], values, "F32")
    assert WanGGUFConvert.fingerprint_inputs(**settings) != before
