"""What 'Wan GGUF Convert' offers and where it writes, in a host whose model folders are made up."""

import os

import folder_paths
import pytest

from wan_gguf.host import conversion_files, paths
from wan_gguf.host.conversion_files import list_sources, refresh_lists, source_path, target_folder
from wan_gguf.host.paths import list_models, register_folders

INDEX = "wan/high/diffusion_pytorch_model.safetensors.index.json"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """(models/unet, models/diffusion_models, text encoders, reference folder), registered, with a few files."""
    unet, diffusion, encoders, reference = (
        tmp_path / name for name in ("unet", "diffusion_models", "text_encoders", "reference")
    )
    for folder in (unet, diffusion / "wan" / "high", encoders, reference):
        folder.mkdir(parents=True)
    files = [
        unet / "old.safetensors", diffusion / "b.gguf", diffusion / "a.safetensors", diffusion / "notes.json",
        diffusion / INDEX, *(diffusion / "wan" / "high" / f"diffusion_pytorch_model-0000{i}-of-00002.safetensors"
        for i in (1, 2)), diffusion / "alone-00001-of-00002.safetensors", encoders / "a.safetensors",
        reference / "wan_reference_dit_f16.gguf",
    ]  # fmt: skip
    for file in files:
        file.write_bytes(b"x")
    registry = {
        "diffusion_models": ([str(unet), str(diffusion)], {".safetensors", ".pt"}),
        "text_encoders": ([str(encoders)], {".safetensors"}),
        "vae": ([], {".safetensors"}),
    }
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", registry)
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    monkeypatch.setattr(paths, "REFERENCE_FOLDER", reference)
    register_folders()
    return unet, diffusion, encoders, reference


def test_the_list_has_the_index_of_a_model_in_parts_instead_of_its_parts(folders):
    assert list_sources() == [
        "diffusion_models/a.safetensors",
        "diffusion_models/alone-00001-of-00002.safetensors",  # no index: the converter says what is missing
        "diffusion_models/b.gguf",
        "diffusion_models/old.safetensors",
        f"diffusion_models/{INDEX}",
        "diffusion_models/wan_reference_dit_f16.gguf",
        "text_encoders/a.safetensors",
    ]


def test_every_listed_file_has_a_path(folders):
    _, diffusion, encoders, reference = folders
    assert all(source_path(choice).is_file() for choice in list_sources())
    assert source_path("text_encoders/a.safetensors") == encoders / "a.safetensors"
    assert source_path(f"diffusion_models/{INDEX}") == diffusion / INDEX
    assert source_path("diffusion_models/wan_reference_dit_f16.gguf") == reference / "wan_reference_dit_f16.gguf"


@pytest.mark.parametrize(
    ("choice", "error", "message"),
    [
        (
            "diffusion_models/gone.safetensors",
            FileNotFoundError,
            "no file 'gone.safetensors' in models/diff",
        ),
        ("diffusion_models/../secret.safetensors", FileNotFoundError, "no file"),
        ("diffusion_models/notes.json", ValueError, "is not a .gguf, .safetensors, .safetensors.index.json file"),
        ("loras/a.safetensors", ValueError, "is in none of diffusion_models, text_encoders; choose one from the list"),
        ("/etc/passwd", ValueError, "is in none of"),
    ],
)
def test_other_names_are_refused(folders, tmp_path, choice, error, message):
    (tmp_path / "secret.safetensors").write_bytes(b"x")
    with pytest.raises(error, match=message):
        source_path(choice)


def test_the_result_goes_where_the_source_is(folders):
    unet, diffusion, encoders, _ = folders
    assert target_folder("diffusion_models/old.safetensors") == unet
    assert target_folder(f"diffusion_models/{INDEX}") == diffusion
    assert target_folder("text_encoders/a.safetensors") == encoders


def test_the_reference_model_s_goes_to_the_folder_called_like_its_kind(folders):
    assert target_folder("diffusion_models/wan_reference_dit_f16.gguf") == folders[1]


def test_folders_that_cannot_be_written_to_are_passed_over(folders, monkeypatch):
    unet, diffusion, *_ = folders
    closed = {diffusion}
    monkeypatch.setattr(conversion_files.os, "access", lambda path, mode: mode != os.W_OK or path not in closed)
    assert target_folder("diffusion_models/a.safetensors") == unet
    closed.add(unet)
    with pytest.raises(ValueError, match=r"no folder for diffusion_models can be written to \(.*unet\)"):
        target_folder("diffusion_models/a.safetensors")


def test_a_new_file_is_listed_after_a_refresh(folders):
    """Even if the folder's time did not change: file systems count it in steps of up to two seconds."""
    _, diffusion, *_ = folders
    before = diffusion.stat()
    assert "new.gguf" not in list_models("unet_gguf")
    (diffusion / "new.gguf").write_bytes(b"x")
    os.utime(diffusion, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "new.gguf" not in list_models("unet_gguf")
    refresh_lists()
    assert "new.gguf" in list_models("unet_gguf")
