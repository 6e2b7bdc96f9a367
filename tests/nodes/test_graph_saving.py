"""What the sampler finds out about the videos of its rows: the saver's settings, the VAE's file, the list's names."""

import copy

import folder_paths
import pytest
import torch
from comfy_api.latest import io

from wan_gguf.host.unfinished_rows import NOTHING_KNOWN, VideoPlan
from wan_gguf.host.video_request import Request
from wan_gguf.nodes import sampler as sampler_module
from wan_gguf.nodes.graph_saving import AGAIN, VIDEO_SETTINGS, run_tags, tiling_again, video_plan
from wan_gguf.nodes.sampler import WanGGUFSampler

VIDEO = {"codec": "vp9", "crf": 30, "pixel_format": "auto", "fps": 24.0, "tiling": "off"}
WORKFLOW = {"workflow": {"nodes": [1]}}
TEXT = "prompt,name\na red circle,circle\n红色的圆形,圆\na blue square,\n"
GRAPH = {
    "list": {"class_type": "WanGGUFPromptList", "inputs": {"text": TEXT, "kind": "csv", "list_name": "none"}},
    "model": {"class_type": "WanGGUFModelLoader", "inputs": {"model_name": "a.gguf"}},
    "latent": {"class_type": "WanGGUFEmptyLatent", "inputs": {"vae": ["vae", 0]}},
    "vae": {"class_type": "VAELoader", "inputs": {"vae_name": "wan_2.1_vae.safetensors"}},
    "sampler": {"class_type": "WanGGUFSampler", "inputs": {"model": ["model", 0], "latent": ["latent", 0]}},
    "save": {
        "class_type": "WanGGUFSaveVideo",
        "inputs": {**VIDEO, "samples": ["sampler", 0], "vae": ["vae", 0], "filename_prefix": ["list", 8]},
    },
}


def plan(graph: object, n_rows: int = 3) -> VideoPlan:
    known = {io.Hidden.prompt: graph, io.Hidden.unique_id: "sampler", io.Hidden.extra_pnginfo: WORKFLOW}
    return video_plan(io.HiddenHolder.from_dict(known), n_rows)


def changed(node: str, **inputs: object) -> dict:
    """The workflow with other inputs at one node."""
    graph = copy.deepcopy(GRAPH)
    graph[node]["inputs"] |= inputs
    return graph


def test_a_list_and_a_saver_tell_everything():
    expected = VideoPlan({**WORKFLOW, "prompt": GRAPH}, VIDEO, "wan_2.1_vae.safetensors", ["circle", "圆", None])
    assert plan(GRAPH) == expected


def test_what_the_host_notes_while_it_runs_is_left_out():
    """The size and time of a model's file, which copies of the same file do not share."""
    graph = copy.deepcopy(GRAPH)
    graph["model"]["is_changed"] = [[14170176, 1795307829287836471]]
    before = copy.deepcopy(graph)
    assert plan(graph).tags["prompt"] == GRAPH
    assert graph == before


def hidden(extra_pnginfo: object, node: object = "save") -> io.HiddenHolder:
    """As the host gives them to the node `node`."""
    known = {io.Hidden.prompt: GRAPH, io.Hidden.unique_id: node, io.Hidden.extra_pnginfo: extra_pnginfo}
    return io.HiddenHolder.from_dict(known)


def test_the_tiles_of_a_run_that_makes_a_result_again_are_in_no_file():
    again = hidden({**WORKFLOW, AGAIN: {"tiling": {"save": "256", "5": "off"}}})
    assert tiling_again(again) == "256" and run_tags(again) == {**WORKFLOW, "prompt": GRAPH}
    assert tiling_again(hidden({AGAIN: {"tiling": {"save": "256"}}}, node="other")) is None


@pytest.mark.parametrize("extra", [None, WORKFLOW, {AGAIN: None}, {AGAIN: {"tiling": "256"}}, {AGAIN: {"tiling": {}}}])
def test_any_other_run_has_none(extra):
    assert tiling_again(hidden(extra)) is None
    assert tiling_again(None) is None


def test_the_settings_are_those_that_a_latent_of_save_video_remembers():
    assert tuple(Request("v", **VIDEO).settings()) == VIDEO_SETTINGS


def test_a_row_alone_and_a_node_outside_of_the_host_have_no_plan():
    assert plan(GRAPH, n_rows=1) is NOTHING_KNOWN
    assert video_plan(None, 3) is NOTHING_KNOWN


def test_names_come_from_a_file_of_the_input_folder_too(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path))
    (tmp_path / "a.csv").write_text(TEXT, encoding="utf-8")
    assert plan(changed("list", text="", list_name="a.csv")).names == ["circle", "圆", None]
    assert plan(changed("list", text="", list_name="gone.csv")).names == []


@pytest.mark.parametrize("name", ["../../a", "a/b", "..", "a\\b", "con"])
def test_a_name_that_is_no_file_name_is_not_used(name):
    assert plan(changed("list", text=f'prompt,name\na,"{name}"\nb,\nc,\n')).names == []


def test_names_of_another_number_of_rows_are_not_used():
    assert plan(GRAPH, n_rows=4).names == []
    assert plan(changed("save", filename_prefix="wan_gguf/video")).names == []
    assert plan(changed("list", text=["another", 0])).names == []


def test_what_is_linked_is_left_out():
    graph = changed("save", codec=["another", 0], fps=None)
    assert plan(graph).video == {name: VIDEO[name] for name in ("crf", "pixel_format", "tiling")}
    assert plan(changed("vae", vae_name=["another", 0])).vae_name is None


def test_a_decoder_tells_the_vae_when_nothing_saves():
    graph = {name: node for name, node in GRAPH.items() if name != "save"}
    graph["decode"] = {"class_type": "VAEDecode", "inputs": {"samples": ["sampler", 0], "vae": ["vae", 0]}}
    found = plan(graph)
    assert (found.video, found.vae_name, found.names) == (None, "wan_2.1_vae.safetensors", [])


def test_a_saver_of_another_sampler_does_not_count():
    graph = changed("save", samples=["other", 0])
    graph["other"] = GRAPH["sampler"]
    found = plan(graph)
    assert (found.video, found.vae_name, found.names) == (None, None, [])


@pytest.mark.parametrize(
    "graph",
    [
        {},
        {"save": None, 5: {}},
        changed("save", vae=["save", 0], samples=["save", 0]),
        {**GRAPH, "list": {"class_type": "WanGGUFPromptList", "inputs": {"text": 5}}},
        {**GRAPH, "list": {"class_type": "WanGGUFPromptList", "inputs": []}},
    ],
)
def test_a_damaged_graph_tells_what_is_left_of_it(graph):
    found = plan(graph)
    assert found.names == [] and found.tags == {**WORKFLOW, "prompt": graph}


def test_the_sampler_hands_it_on(monkeypatch):
    given = []

    def sample_rows(rows, node_id, plan):
        given.append((len(rows), node_id, plan.names))
        return [{"samples": torch.zeros(1), "wan_gguf": {"seed": row["seed"]}} for row in rows]

    known = {io.Hidden.prompt: GRAPH, io.Hidden.unique_id: "sampler"}
    monkeypatch.setattr(WanGGUFSampler, "hidden", io.HiddenHolder.from_dict(known), raising=False)
    monkeypatch.setattr(sampler_module, "sample_rows", sample_rows)
    monkeypatch.setattr(sampler_module, "describe_rows", lambda records: "")
    WanGGUFSampler.execute(seed=[1, 2, 3])
    assert given == [(3, "sampler", ["circle", "圆", None])]


def test_the_sampler_asks_the_host_for_the_workflow():
    assert io.Hidden.extra_pnginfo in WanGGUFSampler.GET_SCHEMA().hidden
