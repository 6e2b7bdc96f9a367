"""The pack in a folder of an odd name, loaded by the host's custom node loader; prompts validated and executed."""

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUNTIME = [
    "__init__.py",
    "nodes",
    "host",
    "convert",
    "loaders",
    "ops",
    "sampling",
    "text",
    "web",
    "locales",
    "pyproject.toml",
]
NODE_IDS = [
    "WanGGUFConvert",
    "WanGGUFEmptyLatent",
    "WanGGUFImageToVideo",
    "WanGGUFLoadLatent",
    "WanGGUFLoraLoader",
    "WanGGUFModelLoader",
    "WanGGUFPrompt",
    "WanGGUFPromptList",
    "WanGGUFRecordImportance",
    "WanGGUFSampler",
    "WanGGUFSaveVideo",
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
    "cfg of the low-noise expert": ("sampler", {"cfg_low_noise": 0.5}, ["cfg_low_noise must be from 1.0 to 15.0"]),
    "wrong link": ("sampler", {"model": ["text_encoder", 0]}, ["model", "CLIP"]),
}


@pytest.fixture(scope="module")
def graph(root) -> dict:
    """The bundled workflow with frames in place of the video, on the tiny files."""
    graph = json.loads((root / "cli/workflows/text_to_video.api.json").read_text(encoding="utf-8"))
    del graph["save_video"]
    graph["decode"] = {"class_type": "WanGGUFVAEDecode", "inputs": {"samples": ["sampler", 0], "vae": ["vae", 0]}}
    graph["save_frames"]["inputs"]["images"] = ["decode", 0]
    graph["model"]["inputs"]["model_name"] = "wan.gguf"
    graph["text_encoder"]["inputs"]["encoder_name"] = "umt5.safetensors"
    graph["vae"]["inputs"]["vae_name"] = "vae.safetensors"
    for node in graph.values():
        node["inputs"] |= {key: value for key, value in SMALL.items() if key in node["inputs"]}
    return graph


SMALL = {"width": 32, "height": 16, "frames": 5, "steps": 1, "dtype": "fp32"}


LIST = {
    "text": "prompt,seed,size,name\na red circle,3,32x16,圆\n红色的圆形向左移动,4,16x16,\na blue square,5,,c",
    "kind": "csv", "list_name": "none", "seed_policy": "from the row", "seed": 0, "negative": "", "cfg": 1.0,
    "steps": 2, "width": 32, "height": 32, "frames": 5, "name_prefix": "list/",
}  # fmt: skip


def with_list(graph: dict, **inputs) -> dict:
    """The workflow with a prompt list for all that rows can say."""
    graph = copy.deepcopy(graph)
    graph["list"] = {"class_type": "WanGGUFPromptList", "inputs": LIST | inputs}
    graph["prompt"]["inputs"] |= {"positive": ["list", 0], "negative": ["list", 1]}
    graph["sampler"]["inputs"] |= {"seed": ["list", 2], "cfg": ["list", 3], "steps": ["list", 4]}
    graph["latent"]["inputs"] |= {"width": ["list", 5], "height": ["list", 6], "frames": ["list", 7]}
    graph["save_frames"]["inputs"] |= {"filename_prefix": ["list", 8]}
    return graph


def changed(graph: dict, node: str, **inputs) -> dict:
    """A copy of the workflow with other inputs at one node."""
    copied = copy.deepcopy(graph)
    copied[node]["inputs"] |= inputs
    return copied


@pytest.fixture(scope="module")
def probe(root, host_dir, graph, model_folder, tmp_path_factory) -> dict:
    """What the host says about a copy of the pack.

    Validated are the right workflow, those of BAD and one with the wrong VAE. Executed are, with one cache, the right
    workflow and the same with another prompt; and with an empty cache each, the one with the wrong VAE, and the right
    one again.
    """
    pack = tmp_path_factory.mktemp("custom_nodes") / "wan gguf 测试.x"
    pack.mkdir()
    for name in RUNTIME:
        copier = shutil.copytree if (root / name).is_dir() else shutil.copy
        copier(root / name, pack / name)
    wrong_vae = changed(graph, "vae", vae_name="vae22.safetensors")
    wanted = {
        "validate": [
            graph,
            *(changed(graph, node, **changes) for node, changes, _ in BAD.values()),
            with_list(graph),
            with_list(graph, text="prompt,seed\na,1\nb,x\n(c:99),2"),
            wrong_vae,
        ],
        "execute": [
            [graph, changed(graph, "prompt", positive="红色的圆形向左移动")],
            [wrong_vae],
            [graph],
            [with_list(graph)],
        ],
    }
    program = Path(__file__).with_name("host_probe.py")
    command = [sys.executable, str(program), str(host_dir), str(pack), str(model_folder)]
    done = subprocess.run(command, input=json.dumps(wanted).encode(), capture_output=True, timeout=300)
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


def test_a_right_prompt_runs_to_its_end(probe):
    first, _ = probe["runs"][0]
    assert first["execution_cached"]["nodes"] == []
    assert "execution_success" in first, first


def test_another_prompt_loads_nothing_again(probe, graph):
    """The loaders are given the whole graph as a hidden input; it must not count as one of their inputs."""
    _, second = probe["runs"][0]
    assert "execution_success" in second, second
    assert sorted(second["execution_cached"]["nodes"]) == ["latent", "model", "text_encoder", "vae"]


def test_a_repeated_prompt_is_a_hit(probe):
    """With everything forgotten but the embeddings on disk; another prompt in between."""
    first, other = (run["shown"]["prompt"] for run in probe["runs"][0])
    again = probe["runs"][2][0]
    assert again["execution_cached"]["nodes"] == []
    assert "execution_success" in again, again
    assert [shown["cache"][0] for shown in (first, other, again["shown"]["prompt"])] == [
        "positive: miss",
        "positive: miss",
        "positive: hit",
    ]
    assert again["shown"]["prompt"]["cache"] == ["positive: hit", "negative: hit"]
    assert again["shown"]["prompt"]["text"] == first["text"]


def test_a_prompt_list_flows_through_the_graph(probe):
    assert probe["answers"][-3] == [True, {}]
    (run,) = probe["runs"][3]
    assert "execution_success" in run, run
    shown = run["shown"]
    names = [image["filename"] for image in shown["save_frames"]["images"]]
    assert names == [f"{name}_0000{i}_.png" for name in ("圆", "0002", "c") for i in range(1, 6)]
    assert {image["subfolder"] for image in shown["save_frames"]["images"]} == {"list"}
    assert shown["sampler"]["text"][0].splitlines() == [
        "custom: 2 steps, cfg 1, shift 3, euler",
        "row 1: seed 3",
        "row 2: seed 4",
        "row 3: seed 5",
    ]


def test_a_prompt_list_with_bad_rows_is_refused_with_their_lines(probe):
    valid, errors = probe["answers"][-2]
    assert valid is False
    assert list(errors) == ["list"]
    assert "line 3, column seed: must be a whole number" in errors["list"][0][1]


def test_a_vae_of_other_channels_is_refused_before_anything_is_loaded(probe):
    """vae22.safetensors holds no weights: had the host's Load VAE come first, the error would be its own."""
    assert probe["answers"][-1] == [True, {}]  # the host validates a node without knowing the others
    error = probe["runs"][1][0]["execution_error"]
    assert error["node_id"] == "model"
    assert error["executed"] == []
    parts = ["'vae22.safetensors' has 48 channels", "'wan.gguf' has 16 channels", "choose wan_2.1_vae.safetensors"]
    assert [part for part in parts if part not in error["exception_message"]] == []
