"""Folders and file lists, in a host whose model folders are made up."""

import folder_paths
import pytest

from wan_gguf.host import paths
from wan_gguf.host.paths import list_models, model_path, reference_vae, register_folders, vae_path


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """(diffusion model folder, text encoder folder, reference folder), registered, with a few files."""
    diffusion, encoders, reference = (tmp_path / name for name in ("diffusion", "encoders", "reference"))
    for folder in (diffusion / "wan", encoders, reference):
        folder.mkdir(parents=True)
    files = [
        diffusion / "b.gguf", diffusion / "wan" / "a.GGUF", diffusion / "other.safetensors", encoders / "umt5.gguf",
        encoders / "umt5.safetensors", encoders / "notes.txt", reference / "wan_reference_dit_f16.gguf",
        reference / "wan_reference_umt5_f16.gguf", reference / "wan_reference_vae.safetensors",
    ]  # fmt: skip
    for file in files:
        file.write_bytes(b"x")
    registry = {
        "diffusion_models": ([str(diffusion)], {".safetensors"}),
        "text_encoders": ([str(encoders)], {".safetensors"}),
        "vae": ([], {".safetensors"}),
    }
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", registry)
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    monkeypatch.setattr(paths, "REFERENCE_FOLDER", reference)
    register_folders()
    return diffusion, encoders, reference


def test_lists_hold_our_extensions_and_the_reference_model_last(folders):
    assert list_models("unet_gguf") == ["b.gguf", "wan/a.GGUF", "wan_reference_dit_f16.gguf"]
    assert list_models("clip_gguf") == ["umt5.gguf", "umt5.safetensors", "wan_reference_umt5_f16.gguf"]


def test_paths_of_listed_files(folders):
    diffusion, encoders, reference = folders
    assert model_path("unet_gguf", "wan/a.GGUF") == diffusion / "wan" / "a.GGUF"
    assert model_path("clip_gguf", "umt5.safetensors") == encoders / "umt5.safetensors"
    assert model_path("unet_gguf", "wan_reference_dit_f16.gguf") == reference / "wan_reference_dit_f16.gguf"


def test_every_listed_file_has_a_path(folders):
    for key in ("unet_gguf", "clip_gguf"):
        assert all(model_path(key, name).is_file() for name in list_models(key))


def test_the_hosts_own_lists_do_not_change(folders):
    assert folder_paths.get_filename_list("diffusion_models") == ["other.safetensors"]
    assert folder_paths.get_filename_list("text_encoders") == ["umt5.safetensors"]


def test_the_stock_vae_loader_finds_the_reference_vae(folders):
    assert folder_paths.get_filename_list("vae") == ["wan_reference_vae.safetensors"]


def test_the_file_that_load_vae_reads(folders, tmp_path):
    reference = folders[2]
    assert vae_path("wan_reference_vae.safetensors") == reference / "wan_reference_vae.safetensors"
    (tmp_path / "secret.safetensors").write_bytes(b"x")
    assert [vae_path(name) for name in ("pixel_space", "gone.safetensors", "../secret.safetensors", "")] == [None] * 4


def test_only_the_reference_model_has_a_vae_of_its_own(folders):
    diffusion, _, reference = folders
    assert reference_vae(reference / "wan_reference_dit_f16.gguf") == "wan_reference_vae.safetensors"
    assert reference_vae(diffusion / "b.gguf") is None


def test_a_folder_the_host_learns_of_later_counts(folders, tmp_path):
    extra = tmp_path / "extra"
    extra.mkdir()
    (extra / "c.gguf").write_bytes(b"x")
    folder_paths.add_model_folder_path("diffusion_models", str(extra))
    assert "c.gguf" in list_models("unet_gguf")


def test_registering_twice_changes_nothing(folders):
    before = {key: (list(value[0]), set(value[1])) for key, value in folder_paths.folder_names_and_paths.items()}
    register_folders()
    assert {k: (list(v[0]), set(v[1])) for k, v in folder_paths.folder_names_and_paths.items()} == before


@pytest.mark.parametrize("comes_after_ours", [False, True])
def test_another_pack_with_the_same_keys(folders, comes_after_ours):
    """ComfyUI-GGUF registers clip_gguf for .gguf only; both extensions stay listed, whoever comes first."""
    shared = folder_paths.folder_names_and_paths["text_encoders"][0]
    folder_paths.folder_names_and_paths["clip_gguf"] = (shared, {".gguf"})
    folder_paths.filename_list_cache.pop("clip_gguf", None)
    if not comes_after_ours:
        register_folders()
        assert folder_paths.folder_names_and_paths["clip_gguf"][1] == {".gguf", ".safetensors"}
    assert list_models("clip_gguf") == ["umt5.gguf", "umt5.safetensors", "wan_reference_umt5_f16.gguf"]


def test_a_missing_file_names_the_folder(folders):
    with pytest.raises(FileNotFoundError, match=r"no file 'gone.gguf' in models/diffusion_models .*refresh"):
        model_path("unet_gguf", "gone.gguf")


@pytest.mark.parametrize("name", ["../secret.gguf", "/etc/secret.gguf", "wan/../../secret.gguf"])
def test_names_do_not_leave_the_folders(folders, name, tmp_path):
    (tmp_path / "secret.gguf").write_bytes(b"x")
    with pytest.raises(FileNotFoundError):
        model_path("unet_gguf", name)


@pytest.mark.parametrize("name", ["other.safetensors", "b.txt", ""])
def test_other_extensions_are_refused(folders, name):
    with pytest.raises(ValueError, match=r"is not a .gguf file; choose one from the list"):
        model_path("unet_gguf", name)


def test_without_a_reference_folder(folders, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "REFERENCE_FOLDER", tmp_path / "not there")
    register_folders()
    assert list_models("unet_gguf") == ["b.gguf", "wan/a.GGUF"]
