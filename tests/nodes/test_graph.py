"""The pairs of model and VAE that a graph makes, and the refusal of those that do not belong together."""

import asyncio
import copy
import inspect
import json

import pytest
from comfy_api.latest import io

from wan_gguf.host.paths import REFERENCE_FOLDER, register_folders
from wan_gguf.loaders.describe import ModelFile, describe
from wan_gguf.nodes import (
    empty_latent,
    graph_files,
    graph_vae,
    model_loader,
    prompt,
    text_encoder_loader,
    vae_decode,
)
from wan_gguf.nodes.graph import refuse_wrong_files
from wan_gguf.nodes.graph_vae import model_vae_pairs

PAIR = ("wan.gguf", "vae.safetensors")
ENCODER = "umt5.safetensors"
LORA = {"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["model", 0], "lora_name": "x", "strength_model": 1.0}}


@pytest.fixture
def graph(root) -> dict:
    """The bundled workflow on the tiny files, with a decoder in place of the saver."""
    graph = json.loads((root / "cli/workflows/text_to_video.api.json").read_text(encoding="utf-8"))
    del graph["save_video"]
    graph["decode"] = {"class_type": "WanGGUFVAEDecode", "inputs": {"samples": ["sampler", 0], "vae": ["vae", 0]}}
    graph["save_frames"]["inputs"]["images"] = ["decode", 0]
    graph["model"]["inputs"]["model_name"], graph["vae"]["inputs"]["vae_name"] = PAIR
    graph["text_encoder"]["inputs"]["encoder_name"] = ENCODER
    return graph


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The names of the files whose headers were read."""
    names: list[str] = []
    graph_files.describe_version.cache_clear()
    monkeypatch.setattr(graph_files, "describe", lambda path: names.append(path.name) or describe(path))
    return names


def pairs(graph: object, node: object = "model") -> list[tuple[str, str]]:
    return list(model_vae_pairs(graph, node))


def hidden(graph: object, node: object = "model") -> io.HiddenHolder:
    """What a node of that id has in `cls.hidden`."""
    return io.HiddenHolder.from_dict({io.Hidden.prompt: graph, io.Hidden.unique_id: node})


class TestPairs:
    def test_there_is_one_at_the_sampler_and_one_at_the_decoder(self, graph):
        assert pairs(graph) == [PAIR, PAIR]

    def test_the_latent_and_the_decoder_may_have_different_vaes(self, graph):
        graph["second"] = {"class_type": "VAELoader", "inputs": {"vae_name": "other.safetensors"}}
        graph["decode"]["inputs"]["vae"] = ["second", 0]
        assert sorted(pairs(graph)) == [("wan.gguf", "other.safetensors"), PAIR]

    def test_nodes_that_hand_on_a_model_or_a_vae_are_followed(self, graph):
        graph |= {"lora": LORA, "shift": {"class_type": "ModelSamplingSD3", "inputs": {"model": ["lora", 0]}}}
        graph["device"] = {"class_type": "SelectVAEDevice", "inputs": {"vae": ["vae", 0]}}
        graph["sampler"]["inputs"]["model"] = ["shift", 0]
        graph["decode"]["inputs"]["vae"] = graph["latent"]["inputs"]["vae"] = ["device", 0]
        assert pairs(graph) == [PAIR, PAIR]

    def test_latents_through_other_nodes_and_the_hosts_decoder(self, graph):
        graph["upscale"] = {"class_type": "LatentUpscale", "inputs": {"samples": ["sampler", 0]}}
        graph["decode"] = {"class_type": "VAEDecodeTiled", "inputs": {"samples": ["upscale", 0], "vae": ["vae", 0]}}
        graph["cut"] = {"class_type": "LatentCut", "inputs": {"samples": ["latent", 0]}}
        graph["sampler"]["inputs"]["latent"] = ["cut", 0]
        assert pairs(graph) == [PAIR, PAIR]

    def test_a_node_that_puts_an_image_into_the_conditioning(self, graph):
        """Whatever it is called: it has an input `vae`."""
        inputs = {"positive": ["prompt", 0], "vae": ["second", 0]}
        graph["second"] = {"class_type": "VAELoader", "inputs": {"vae_name": "other.safetensors"}}
        graph["image"] = {"class_type": "SomeImageToVideo", "inputs": inputs}
        graph["sampler"]["inputs"]["positive"] = ["image", 0]
        assert ("wan.gguf", "other.safetensors") in pairs(graph)

    def test_the_hosts_sampler_and_the_low_noise_model(self, graph):
        graph["low"] = {"class_type": "UnetLoaderGGUF", "inputs": {"unet_name": "low.gguf"}}
        graph["sampler"]["inputs"]["low_noise_model"] = ["low", 0]
        graph["sampler"]["class_type"] = "SomeSampler"
        assert set(pairs(graph)) == {PAIR, ("low.gguf", "vae.safetensors")}

    @pytest.mark.parametrize("node", ["model", "text_encoder", "prompt", "vae", "latent", "sampler"])
    def test_every_node_that_the_video_depends_on_sees_the_pair(self, graph, node):
        assert PAIR in pairs(graph, node)

    @pytest.mark.parametrize("node", ["video", "save_frames", "no such node", None, 3])
    def test_a_node_that_the_video_does_not_depend_on_sees_none(self, graph, node):
        assert pairs(graph, node) == []

    def test_another_video_in_the_same_workflow_is_left_to_its_own_nodes(self, graph):
        other = copy.deepcopy({f"other {name}": node for name, node in graph.items()})
        for node in other.values():
            links = {name: value for name, value in node["inputs"].items() if isinstance(value, list)}
            node["inputs"] |= {name: [f"other {source}", slot] for name, (source, slot) in links.items()}
        other["other vae"]["inputs"]["vae_name"] = "other.safetensors"
        both = graph | other
        assert set(pairs(both, "text_encoder")) == {PAIR}
        assert set(pairs(both, "other text_encoder")) == {("wan.gguf", "other.safetensors")}


class TestNoOpinion:
    @pytest.mark.parametrize(
        ("node", "changes"),
        [
            ("model", {"class_type": "UNETLoader"}),
            ("vae", {"class_type": "SomeVAELoader"}),
            ("model", {"inputs": {"model_name": ["text", 0]}}),
            ("vae", {"inputs": {"vae_name": ["text", 0]}}),
            ("vae", {"inputs": {}}),
            ("sampler", {"inputs": {}}),
        ],
    )
    def test_other_loaders_and_linked_names(self, graph, node, changes):
        graph[node] |= changes
        assert pairs(graph) == []

    def test_a_latent_in_a_circle(self, graph):
        graph["upscale"] = {"class_type": "LatentUpscale", "inputs": {"samples": ["upscale", 0]}}
        graph["sampler"]["inputs"]["latent"] = ["upscale", 0]
        graph["decode"]["inputs"]["samples"] = ["upscale", 0]
        assert pairs(graph) == []

    @pytest.mark.parametrize("names", [["model"], ["lora", "model"]])
    def test_circles(self, graph, names):
        graph["lora"] = copy.deepcopy(LORA)
        graph["model"]["inputs"]["model"] = [names[0], 0]
        graph["sampler"]["inputs"]["model"] = ["lora", 0]
        assert pairs(graph) == []

    @pytest.mark.parametrize(
        "graph", [None, {}, [], "text", 5, {"a": None}, {"a": []}, {1: {"class_type": "VAELoader"}}]
    )
    def test_no_graph_at_all(self, graph, read):
        assert pairs(graph, "a") == []
        refuse_wrong_files(hidden(graph))
        assert read == []

    @pytest.mark.parametrize("damage", [None, 7, "text", [], {}, [None, 0], [[], 0], ["gone", 0], ["model"], [1, 2, 3]])
    def test_every_part_of_the_graph_may_be_damaged(self, graph, damage):
        """Whatever stands in the place of a node, its kind, its inputs or one input: an answer, never an exception."""
        for name, node in graph.items():
            for damaged in (
                {**graph, name: damage},
                {**graph, name: {**node, "class_type": damage}},
                {**graph, name: {**node, "inputs": damage}},
                *({**graph, name: {**node, "inputs": {**node["inputs"], key: damage}}} for key in node["inputs"]),
            ):
                assert all(isinstance(file, str) for pair in pairs(damaged) for file in pair)

    @pytest.mark.parametrize("damage", [None, 7, "text", [], {}, [[], 0], ["gone", 0]])
    @pytest.mark.parametrize("part", ["class_type", "inputs"])
    def test_a_damaged_graph_is_never_refused(self, graph, read, part, damage):
        """The model's loader stays, so that there is something to compare with."""
        for name in graph.keys() - {"model"}:
            refuse_wrong_files(hidden({**graph, name: {**graph[name], part: damage}}))
        assert set(read) <= {*PAIR, ENCODER}

    def test_outside_the_host(self, read):
        refuse_wrong_files(None)
        assert read == []


@pytest.mark.usefixtures("host_folders")
class TestRefusal:
    def test_files_that_fit_are_found_read_once_and_compared(self, graph, read):
        assert set(pairs(graph)) == {PAIR}
        refuse_wrong_files(hidden(graph))
        assert sorted(read) == sorted([*PAIR, ENCODER])

    def test_a_vae_of_other_channels(self, graph):
        graph["vae"]["inputs"]["vae_name"] = "vae22.safetensors"
        with pytest.raises(ValueError) as refusal:
            refuse_wrong_files(hidden(graph))
        assert str(refusal.value) == (
            "the VAE 'vae22.safetensors' has 48 channels (Wan 2.2 VAE), the model 'wan.gguf' has 16 channels "
            "(Wan 2.1 VAE); choose wan_2.1_vae.safetensors in 'Load VAE'"
        )

    @pytest.mark.parametrize("wrong", ["latent", "decode"])
    def test_one_wrong_vae_of_two(self, graph, wrong):
        graph["second"] = {"class_type": "VAELoader", "inputs": {"vae_name": "vae22.safetensors"}}
        graph[wrong]["inputs"]["vae"] = ["second", 0]
        with pytest.raises(ValueError, match=r"vae22\.safetensors"):
            refuse_wrong_files(hidden(graph))

    def test_the_reference_model_is_told_its_own_vae(self, graph):
        """Real Wan 2.1 weights have its channels too, but would decode it to noise."""
        graph["model"]["inputs"]["model_name"] = "wan_reference_dit_f16.gguf"
        graph["vae"]["inputs"]["vae_name"] = "vae22.safetensors"
        with pytest.raises(ValueError, match=r"choose wan_reference_vae\.safetensors in"):
            refuse_wrong_files(hidden(graph))

    def test_the_reference_model_refuses_wans_own_vae(self):
        model = ModelFile(REFERENCE_FOLDER / "wan_reference_dit_f16.gguf", "wan", "", None, {"dim": 256}, 16)
        wan_vae = ModelFile(REFERENCE_FOLDER.parent / "a.safetensors", "vae", "", None, {"width": 384}, 16)
        message = graph_vae._refuse(model, "m", wan_vae, "v")
        assert message.endswith("is the reference model; choose wan_reference_vae.safetensors in 'Load VAE'")
        own = ModelFile(REFERENCE_FOLDER / "v", "vae", "", None, {"width": 96}, 16)
        assert graph_vae._refuse(model, "m", own, "v") is None
        wan = ModelFile(REFERENCE_FOLDER.parent / "a.gguf", "wan", "", None, {"dim": 5120}, 16)
        assert graph_vae._refuse(wan, "m", own, "v").endswith("is Wan's; choose wan_2.1_vae.safetensors in 'Load VAE'")
        assert graph_vae._refuse(wan, "m", wan_vae, "v") is None

    def test_channels_of_no_known_vae(self):
        model = ModelFile(REFERENCE_FOLDER.parent / "a.gguf", "wan", "", latent_channels=7)
        assert graph_vae._remedy(model) == "choose the VAE the model was made with"

    def test_a_text_encoder_as_the_vae(self, graph):
        graph["vae"]["inputs"]["vae_name"] = "umt5.safetensors"
        message = r"'umt5\.safetensors', chosen as the VAE, is UMT5 text encoder, width 64, .*; choose wan_2\.1_vae\."
        with pytest.raises(ValueError, match=message):
            refuse_wrong_files(hidden(graph))

    @pytest.mark.parametrize(
        ("node", "name"),
        [
            ("vae", "pixel_space"),
            ("vae", "taesd"),
            ("vae", "gone.safetensors"),
            ("vae", "notes.gguf"),
            ("vae", "\0"),
            ("vae", "\ud800"),
            ("vae", ""),
            ("model", "gone.gguf"),
            ("model", "umt5.gguf"),
            ("model", "notes.gguf"),
            ("model", "truncated.gguf"),
            ("model", "\ud800.gguf"),
            ("model", ""),
        ],
    )
    def test_files_that_are_not_known_give_no_opinion(self, graph, node, name):
        """The pair is found each time, and one with two known files would be refused."""
        graph["vae"]["inputs"]["vae_name"] = "vae22.safetensors"
        with pytest.raises(ValueError, match="has 48 channels"):
            refuse_wrong_files(hidden(graph))
        graph[node]["inputs"][f"{node}_name"] = name
        found = {"model": "wan.gguf", "vae": "vae22.safetensors", node: name}
        assert set(pairs(graph)) == {(found["model"], found["vae"])}
        refuse_wrong_files(hidden(graph))


NODES = {  # id in the bundled workflow -> (node, what it would do next)
    "model": (model_loader.WanGGUFModelLoader, (model_loader, "load_diffusion_model")),
    "text_encoder": (text_encoder_loader.WanGGUFTextEncoderLoader, (text_encoder_loader, "open_text_encoder")),
    "prompt": (prompt.WanGGUFPrompt, (prompt, "encode_cached")),
    "latent": (empty_latent.WanGGUFEmptyLatent, (empty_latent, "vae_geometry")),
    "decode": (vae_decode.WanGGUFVAEDecode, (vae_decode, "decode_latent")),
}


RESULTS = {"encode_cached": ([], "miss"), "vae_geometry": (16, 8)}  # of the work that was replaced


@pytest.mark.usefixtures("host_folders")
@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("vae_name", ["vae.safetensors", "vae22.safetensors"])
def test_each_node_refuses_before_it_does_anything(graph, monkeypatch, name, vae_name):
    node, (module, work) = NODES[name]
    done = []
    monkeypatch.setattr(module, work, lambda *_: done.append(work) or RESULTS.get(work))
    graph["vae"]["inputs"]["vae_name"] = vae_name
    values = {io.Hidden.prompt: graph, io.Hidden.unique_id: name}
    as_the_host_calls_it = node.PREPARE_CLASS_CLONE({"hidden_inputs": values})

    def execute() -> None:
        result = as_the_host_calls_it.execute(**graph[name]["inputs"])
        if inspect.isawaitable(result):
            asyncio.run(result)

    if vae_name == "vae.safetensors":
        execute()
        assert set(done) == {work}
    else:
        with pytest.raises(ValueError, match="has 48 channels"):
            execute()
        assert done == []


def test_the_reference_files_are_read_once(root, read):
    """Headers only, and each file once, however many nodes of a run use it."""
    register_folders()
    graph = json.loads((root / "cli/workflows/text_to_video.api.json").read_text(encoding="utf-8"))
    for node in ("model", "text_encoder", "prompt", "decode"):
        refuse_wrong_files(hidden(graph, node))
    chosen = [value for node in graph.values() for name, value in node["inputs"].items() if name.endswith("_name")]
    assert sorted(read) == sorted(chosen)
    assert len(read) == 3
