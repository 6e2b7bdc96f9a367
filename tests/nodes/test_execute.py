"""The nodes in a row on tiny models: a prompt becomes frames; and what each node hands on."""

import asyncio
import inspect
import json

import pytest
import torch

import nodes as host_nodes
from wan_gguf.host.lora import list_loras
from wan_gguf.host.paths import register_folders
from wan_gguf.nodes import prompt as prompt_module
from wan_gguf.nodes.empty_latent import WanGGUFEmptyLatent
from wan_gguf.nodes.extension import discover_nodes
from wan_gguf.nodes.prompt import WanGGUFPrompt
from wan_gguf.text.negative import DEFAULT_NEGATIVES

pytestmark = pytest.mark.usefixtures("host_folders", "as_the_host_runs_nodes")

FILES = {"model_name": "wan.gguf", "encoder_name": "umt5.safetensors", "vae_name": "vae.safetensors"}
SMALL = {"width": 32, "height": 16, "frames": 5, "steps": 2, "dtype": "fp32"}


def run(graph: dict, until: str) -> tuple:
    """Execute an API workflow up to one node, by hand; the outputs of that node."""
    register_folders()
    classes = {node.GET_SCHEMA().node_id: node for node in discover_nodes()}
    done: dict[str, tuple] = {}

    def outputs(name: str) -> tuple:
        if name not in done:
            inputs = {
                key: outputs(value[0])[value[1]] if isinstance(value, list) else value
                for key, value in graph[name]["inputs"].items()
            }
            kind = graph[name]["class_type"]
            if kind == "VAELoader":
                done[name] = host_nodes.VAELoader().load_vae(**inputs)
            else:
                done[name] = outputs_of(classes[kind], executed(classes[kind], inputs))
        return done[name]

    return outputs(until)


def outputs_of(node: type, result) -> tuple:
    """The outputs of a node that ran for single values: lists have one entry."""
    return tuple(
        value[0] if slot.is_output_list else value
        for slot, value in zip(node.GET_SCHEMA().outputs, result.args, strict=True)
    )


def executed(node: type, inputs: dict):
    """What the node returns, async or not; one that takes lists gets lists of one."""
    if node.GET_SCHEMA().is_input_list:
        inputs = {name: [value] for name, value in inputs.items()}
    result = node.execute(**inputs)
    return asyncio.run(result) if inspect.isawaitable(result) else result


@pytest.fixture
def graph(root) -> dict:
    """The bundled workflow with tiny models and a tiny size, and with the frames decoded by a node of their own."""
    graph = json.loads((root / "cli/workflows/text_to_video.api.json").read_text(encoding="utf-8"))
    graph["decode"] = {"class_type": "WanGGUFVAEDecode", "inputs": {"samples": ["sampler", 0], "vae": ["vae", 0]}}
    for node in graph.values():
        node["inputs"] |= {key: value for key, value in (FILES | SMALL).items() if key in node["inputs"]}
    return graph


def test_the_workflow_makes_frames(graph):
    (frames,) = run(graph, "decode")
    assert frames.shape == (5, 16, 32, 3)
    assert frames.dtype == torch.float32
    assert torch.isfinite(frames).all()
    assert 0 <= frames.min() < frames.max() <= 1


def test_the_same_seed_gives_the_same_latent_and_another_seed_another(graph):
    def sampled(seed):
        graph["sampler"]["inputs"]["seed"] = seed
        return run(graph, "sampler")[0]["samples"]

    assert torch.equal(sampled(7), sampled(7))
    assert not torch.equal(sampled(7), sampled(8))


def test_the_prompt_reaches_the_video(graph):
    def sampled(positive):
        graph["prompt"]["inputs"]["positive"] = positive
        return run(graph, "sampler")[0]["samples"]

    assert not torch.equal(sampled("a red circle moves left"), sampled("红色的圆形向左移动"))


def with_lora(graph: dict, name: str, model: str, strength: float) -> dict:
    """The workflow with a LoRA loader behind that node."""
    settings = {"model": [model, 0], "lora_name": "lora.safetensors", "strength": strength}
    return graph | {name: {"class_type": "WanGGUFLoraLoader", "inputs": settings}}


def test_a_lora_reaches_the_video_and_reports(graph):
    base = run(graph, "sampler")[0]
    graph = with_lora(with_lora(graph, "first", "model", 1.0), "second", "first", -0.5)
    assert run(graph, "second")[1] == "lora.safetensors: 10 of 10 modules, 10 of rank 4 at alpha/rank 0.25"
    graph["sampler"]["inputs"]["model"] = ["second", 0]
    patched = run(graph, "sampler")[0]
    assert not torch.equal(patched["samples"], base["samples"])
    used = [{"file": "lora.safetensors", "strength": 1.0}, {"file": "lora.safetensors", "strength": -0.5}]
    assert patched["wan_gguf"]["loras"] == used


def test_two_experts_make_one_latent_and_the_split_is_shown(graph):
    one = run(graph, "sampler")[0]
    graph["low"] = graph["model"]
    graph["sampler"]["inputs"] |= {"low_noise_model": ["low", 0], "boundary": 0.95}
    node = {node.GET_SCHEMA().node_id: node for node in discover_nodes()}["WanGGUFSampler"]
    inputs = {key: value for key, value in graph["sampler"]["inputs"].items() if not isinstance(value, list)}
    linked = {
        key: run(graph, value[0])[value[1]]
        for key, value in graph["sampler"]["inputs"].items()
        if isinstance(value, list)
    }
    output = executed(node, inputs | linked)
    (sampled,) = outputs_of(node, output)
    assert torch.equal(sampled["samples"], one["samples"])  # the same file twice
    split = "1 step high_noise + 1 step low_noise (boundary 0.95)"
    assert sampled["wan_gguf"]["split"] == split
    assert split in output.ui.as_dict()["text"][0]


def test_the_list_of_loras_has_no_pickles(host_folders):
    (host_folders / "old.pt").write_bytes(b"")
    try:
        assert "lora.safetensors" in list_loras()
        assert [name for name in list_loras() if not name.endswith((".safetensors", ".sft"))] == []
    finally:
        (host_folders / "old.pt").unlink()


def test_the_empty_latent_has_the_geometry_of_the_vae(graph):
    vae = run(graph, "vae")[0]
    latent = WanGGUFEmptyLatent.execute(vae, width=64, height=32, frames=17, batch_size=2).args[0]
    assert latent["samples"].shape == (2, 16, 5, 4, 8)
    assert not latent["samples"].any()


def test_linked_sizes_are_checked_at_execution(graph):
    vae = run(graph, "vae")[0]
    with pytest.raises(ValueError, match="frames must be 1"):
        WanGGUFEmptyLatent.execute(vae, width=64, height=32, frames=16, batch_size=1)


class Vae48:
    """The geometry of the Wan2.2 VAE, which the tiny one does not have."""

    latent_channels, latent_dim = 48, 3
    first_stage_model = None

    def spacial_compression_decode(self):
        return 16

    def temporal_compression_decode(self):
        return 4


def test_a_vae_of_other_channels_is_refused_before_sampling(graph):
    latent = WanGGUFEmptyLatent.execute(Vae48(), width=64, height=32, frames=5, batch_size=1).args[0]
    assert latent["samples"].shape == (1, 48, 2, 2, 4)
    positive, negative, _ = run(graph, "prompt")
    sampler = {node.GET_SCHEMA().node_id: node for node in discover_nodes()}["WanGGUFSampler"]
    settings = graph["sampler"]["inputs"] | {"positive": positive, "negative": negative, "latent": latent}
    with pytest.raises(ValueError, match=r"48 channels.*16 channels.*wan_2\.1_vae"):
        executed(sampler, settings | {"model": run(graph, "model")[0]})


def test_sides_of_the_wan22_vae_are_multiples_of_32():
    with pytest.raises(ValueError, match="width must be a multiple of 32, got 48; nearest: 32 or 64"):
        WanGGUFEmptyLatent.execute(Vae48(), width=48, height=32, frames=5, batch_size=1)


@pytest.fixture
def encoded(monkeypatch) -> list:
    """What the prompt node asks the text encoder for."""
    calls: list = []

    def record(clip, spans, name, use_cache):
        calls.append([(span.text, span.weight) for span in spans])
        return f"conditioning {len(calls)}", f"{name} {use_cache}"

    monkeypatch.setattr(prompt_module, "encode_cached", record)
    return calls


def test_the_prompt_is_cleaned_and_weighted(encoded):
    output = WanGGUFPrompt.execute(None, "a  （red：1.2） circle &amp; more", "ugly", "none")
    assert output.args == ("conditioning 1", "conditioning 2", "en")
    assert encoded == [[("a ", 1.0), ("red", 1.2), (" circle & more", 1.0)], [("ugly", 1.0)]]


@pytest.mark.parametrize(
    ("positive", "policy", "language", "negative"),
    [
        ("a red circle", "prompt language", "en", "en"),
        ("红色的圆形", "prompt language", "zh", "zh"),
        ("a red circle", "chinese", "en", "zh"),
        ("红色的圆形", "english", "zh", "en"),
    ],
)
def test_an_empty_negative_takes_the_default(encoded, positive, policy, language, negative):
    output = WanGGUFPrompt.execute(None, positive, " ", policy)
    assert output.args[2] == language
    expected = prompt_module.clean_prompt(DEFAULT_NEGATIVES[negative])
    assert "".join(text for text, _ in encoded[1]) == expected


def test_no_negative_at_all(encoded):
    WanGGUFPrompt.execute(None, "a red circle", "", "none")
    assert encoded[1] == []


@pytest.mark.parametrize(("positive", "shown"), [("a red circle", "English (en)"), ("红色的圆形", "中文 (zh)")])
def test_the_node_shows_the_language_and_the_negative_in_use(encoded, positive, shown):
    text = WanGGUFPrompt.execute(None, positive, "", "prompt language").ui["text"][0]
    assert text.splitlines()[0] == shown
    assert DEFAULT_NEGATIVES[(positive.isascii() and "en") or "zh"] in text


@pytest.mark.parametrize("cache", [True, False])
def test_the_cache_is_asked_as_the_switch_says_and_its_answer_shown(encoded, cache):
    shown = WanGGUFPrompt.execute(None, "a red circle", "", "none", cache).ui["cache"]
    assert shown == (f"positive: positive {cache}", f"negative: negative {cache}")


def test_a_workflow_without_the_switch_uses_the_cache(graph):
    del graph["prompt"]["inputs"]["cache"]
    inputs = {"positive": "a red circle", "negative": "", "default_negative": "none"}
    for state in ("miss", "hit"):
        clip = run(graph, "text_encoder")[0]
        shown = WanGGUFPrompt.execute(clip, **inputs).ui["cache"]
        assert shown == (f"positive: {state}", f"negative: {state}")


def test_a_linked_wrong_file_is_refused_by_the_loader(graph):
    graph["text_encoder"]["inputs"]["encoder_name"] = "vae.safetensors"
    with pytest.raises(ValueError, match=r"encoder_name: .*vae\.safetensors.* is a Wan VAE"):
        run(graph, "text_encoder")


def test_a_linked_empty_prompt_is_refused_at_execution(encoded):
    with pytest.raises(ValueError, match="positive: the prompt is empty"):
        WanGGUFPrompt.execute(None, " ", "", "none")
    assert encoded == []
