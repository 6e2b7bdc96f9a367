"""The bundled workflow is a whole one, and the files it needs are asked for by name."""

import pytest

from wan_gguf.cli.errors import CliError
from wan_gguf.cli.workflow import class_types, load_workflow, model_files, titles

NODE_IDS = {"model", "text_encoder", "vae", "prompt", "latent", "sampler", "save_video", "save_frames"}


def test_every_link_leads_to_a_node_and_every_node_has_a_title():
    workflow = load_workflow()
    assert set(workflow) == NODE_IDS
    links = [value for node in workflow.values() for value in node["inputs"].values() if isinstance(value, list)]
    assert len(links) == 9
    assert {source for source, _ in links} < NODE_IDS
    assert all(titles(workflow)[name] != name for name in NODE_IDS)


def test_titles_and_class_types_of_a_workflow_without_titles():
    workflow = {"a": {"class_type": "EmptyImage", "inputs": {}}}
    assert titles(workflow) == {"a": "a"}
    assert class_types(workflow) == {"EmptyImage"}


def test_missing_model_files_are_one_clear_line(tmp_path):
    (tmp_path / "wan_reference_vae.safetensors").write_bytes(b"x")
    with pytest.raises(CliError) as missing:
        model_files(load_workflow(), tmp_path)
    assert "wan_reference_dit_f16.gguf, wan_reference_umt5_f16.gguf not in" in str(missing.value)
    assert "git checkout" in str(missing.value) and "\n" not in str(missing.value)
