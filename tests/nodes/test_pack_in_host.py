"""The pack in a folder of an odd name, loaded by the host's custom node loader; prompts judged by its validator."""

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUNTIME = ["__init__.py", "nodes", "host", "loaders", "ops", "sampling", "text", "web", "locales", "pyproject.toml"]
NODE_IDS = [
    "WanGGUFEmptyLatent",
    "WanGGUFModelLoader",
    "WanGGUFPrompt",
    "WanGGUFSampler",
    "WanGGUFTextEncoderLoader",
    "WanGGUFVAEDecode",
]
BAD = {  # name -> (node, changed inputs, parts of the message)
    "missing file": ("model", {"model_name": "gone.gguf"}, ["model_name", "gone.gguf", "models/"]),
    "text encoder as model": (
        "model",
        {"model_name": "umt5.gguf"},
        ["model_name", "is a UMT5 text encoder", "'Wan GGUF Text Encoder Loader'"],
    ),
    "model as text encoder": (
        "text_encoder",
        {"encoder_name": "wan.gguf"},
        ["encoder_name", "'Wan GGUF Model Loader'"],
    ),
    "frames": ("latent", {"frames": 80}, ["frames must be 1 + a multiple of 4, got 80; nearest: 77 or 81"]),
    "width": ("latent", {"width": 100}, ["width must be a multiple of 16, got 100; nearest: 96 or 112"]),
    "cfg": ("sampler", {"cfg": 16.0}, ["cfg must be from 1.0 to 15.0, got 16.0"]),
    "empty prompt": ("prompt", {"positive": " "}, ["positive", "empty"]),
    "seed": ("sampler", {"seed": -1}, ["seed", "smaller than min"]),
    "steps": ("sampler", {"steps": 0}, ["steps", "smaller than min"]),
    "solver": ("sampler", {"solver": "heun"}, ["solver", "heun"]),
    "wrong link": ("sampler", {"model": ["text_encoder", 0]}, ["model", "CLIP"]),
}


@pytest.fixture(scope="module")
def graph(root) -> dict:
    """The bundled workflow up to the saved frames, on the tiny files; the video nodes are not loaded in the probe."""
    graph = json.loads((root / "cli/workflows/text_to_video.api.json").read_text(encoding="utf-8"))
    graph = {name: graph[name] for name in graph if name not in ("video", "save_video")}
    graph["model"]["inputs"]["model_name"] = "wan.gguf"
    graph["text_encoder"]["inputs"]["encoder_name"] = "umt5.safetensors"
    graph["vae"]["inputs"]["vae_name"] = "vae.safetensors"
    return graph


@pytest.fixture(scope="module")
def probe(root, host_dir, graph, model_folder, tmp_path_factory) -> dict:
    """What the host says about a copy of the pack; the first prompt is right, the others are those of BAD."""
    pack = tmp_path_factory.mktemp("custom_nodes") / "wan gguf 测试.x"
    pack.mkdir()
    for name in RUNTIME:
        copier = shutil.copytree if (root / name).is_dir() else shutil.copy
        copier(root / name, pack / name)
    prompts = [graph]
    for node, changes, _ in BAD.values():
        prompts.append(copy.deepcopy(graph))
        prompts[-1][node]["inputs"] |= changes
    program = Path(__file__).with_name("host_probe.py")
    command = [sys.executable, str(program), str(host_dir), str(pack), str(model_folder)]
    done = subprocess.run(command, input=json.dumps(prompts).encode(), capture_output=True, timeout=300)
    answer = [line for line in done.stdout.splitlines() if line.startswith(b"PROBE ")]
    assert answer, done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
    return {"pack": pack, **json.loads(answer[0][6:])}


def test_the_host_loads_all_nodes(probe):
    assert probe["loaded"] is True
    assert sorted(probe["object_info"]) == NODE_IDS
    assert {info["category"] for info in probe["object_info"].values()} == {"Wan GGUF"}


def test_the_host_finds_the_help_pages(probe):
    assert [Path(folder) for folder in probe["web_dirs"]] == [probe["pack"] / "web"]


def test_the_lists_hold_the_files_of_the_folders(probe):
    models = probe["object_info"]["WanGGUFModelLoader"]["input"]["required"]["model_name"][1]["options"]
    encoders = probe["object_info"]["WanGGUFTextEncoderLoader"]["input"]["required"]["encoder_name"][1]["options"]
    assert "wan.gguf" in models
    assert {"umt5.safetensors", "umt5.gguf"} <= set(encoders)
    assert not [name for name in models if name.endswith(".safetensors")]


def test_a_right_prompt_is_accepted(probe):
    assert probe["answers"][0] == [True, {}]


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_prompt_is_refused_at_its_node(probe, name):
    node, _, parts = BAD[name]
    valid, errors = probe["answers"][1 + list(BAD).index(name)]
    assert valid is False
    assert list(errors) == [node]
    text = "\n".join(f"{message}: {details}" for message, details in errors[node])
    assert [part for part in parts if part not in text] == [], text
