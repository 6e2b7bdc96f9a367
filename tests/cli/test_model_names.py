"""Which model files a workflow names: the bundled one, odd ones, and every loader of the real host."""

import pytest

from wan_gguf.cli.batch_server import model_folders
from wan_gguf.cli.model_names import BY_CLASS, BY_INPUT, MODEL_ENDS, OTHER_FOLDERS, folder_names, model_names
from wan_gguf.cli.workflow import load_workflow, model_files

KEYS = sorted({*BY_INPUT.values(), *(key for inputs in BY_CLASS.values() for key in inputs.values()), "vae_approx"})


def names_in(class_type: str, **inputs) -> dict[str, str]:
    return model_names({"1": {"class_type": class_type, "inputs": inputs}})


def test_model_files_are_found_by_their_loaders_inputs():
    workflow = load_workflow()
    workflow["lora"] = {"class_type": "WanGGUFLoraLoader", "inputs": {"lora_name": "sub/fast.safetensors"}}
    workflow["prompt"]["inputs"]["positive"] = "no_file.gguf"
    workflow["taesd"] = {"class_type": "VAELoader", "inputs": {"vae_name": "pixel_space"}}
    bundled = [path.name for path in model_files(load_workflow())]
    assert list(model_names(workflow)) == [*bundled, "sub/fast.safetensors"]
    assert set(model_names(workflow).values()) == {"diffusion_models", "text_encoders", "vae", "loras"}


def test_an_input_name_that_several_loaders_have_is_told_apart_by_the_class():
    assert names_in("UpscaleModelLoader", model_name="4x.pth") == {"4x.pth": "upscale_models"}
    assert names_in("CLIPVisionLoader", clip_name="h.safetensors") == {"h.safetensors": "clip_vision"}
    assert names_in("SomebodysLoader", model_name="a.gguf", clip_name=["2", 0]) == {"a.gguf": "diffusion_models"}
    assert names_in("SomebodysLoader", text="a.gguf") == {}


def test_load_vae_looks_for_tiny_vaes_in_a_folder_of_their_own():
    found = names_in("VAELoader", vae_name="lighttaew2_2.safetensors")
    assert found == {"lighttaew2_2.safetensors": "vae_approx"}
    assert names_in("VAELoader", vae_name="taehv_mine.safetensors") == {"taehv_mine.safetensors": "vae"}


@pytest.mark.parametrize("key", KEYS)
def test_a_models_folder_is_laid_out_with_the_same_keys(key, tmp_path):
    folders = [tmp_path / name for name in folder_names(key)]
    for folder in folders:
        folder.mkdir()
    assert {key: sorted(folders)} == model_folders(tmp_path)


def test_every_loader_of_the_host_is_known_with_its_folder(server):
    """A file of its own in each of the host's folders: who offers it looks there."""
    import folder_paths

    own = {"unet_gguf", "clip_gguf", "custom_nodes"}  # two share the folders of others, one has no models
    keys = folder_paths.folder_names_and_paths.keys() - own
    folders = {key: server.base / "models" / folder_names(key)[-1] for key in keys}
    files = {}
    for key, folder in folders.items():
        stem = "taehv" if key == "vae_approx" else f"only in {key}"  # Load VAE offers known names from there
        files |= {folder / f"{stem}{end}": key for end in (".safetensors", ".gguf")}
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    try:
        found = [offer for about in server.get_json("/object_info").items() for offer in offers(*about)]
    finally:
        for file in files:
            file.unlink()
    expected = {file.name: key for file, key in files.items()}
    loaders = [(kind, name, file) for kind, name, options in found for file in options if file in expected]
    assert {expected[file] for _, _, file in loaders} == set(KEYS)
    wrong = [offer for offer in loaders if names_in(offer[0], **{offer[1]: offer[2]}) != {offer[2]: expected[offer[2]]}]
    assert wrong == []


def offers(class_type: str, about: dict) -> list[tuple[str, str, list]]:
    """(class, input, what it offers) of the inputs that are lists."""
    inputs = {**about["input"].get("required", {}), **about["input"].get("optional", {})}
    lists = {name: kind[1].get("options", []) if kind[0] == "COMBO" else kind[0] for name, kind in inputs.items()}
    return [(class_type, name, options) for name, options in lists.items() if isinstance(options, list)]


def test_the_endings_and_folders_are_the_hosts():
    import folder_paths

    assert folder_paths.supported_pt_extensions <= set(MODEL_ENDS)
    for name, key in OTHER_FOLDERS.items():
        folders = folder_paths.folder_names_and_paths[key][0]
        assert any(folder.replace("\\", "/").endswith(f"/models/{name}") for folder in folders)
