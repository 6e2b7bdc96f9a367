"""Reading a queued graph: links, chains, reroutes and switches, and what a sampler's latent comes from."""

import copy

import pytest

from wan_gguf.nodes.graph_walk import (
    chain,
    conditioned_by,
    depends,
    file_name,
    is_sampler,
    latent_source,
    origin,
    samplers,
    source_of,
)


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


@pytest.fixture
def graph() -> dict:
    return {
        "model": node("WanGGUFModelLoader", model_name="wan.gguf"),
        "lora": node("LoraLoaderModelOnly", model=["model", 0], lora_name="x"),
        "positive": node("CLIPTextEncode", clip=["clip", 0]),
        "combined": node("ConditioningSetMask", conditioning=["positive", 0]),
        "image": node("WanImageToVideo", positive=["combined", 0], vae=["vae", 0], start_image=["picture", 0]),
        "sampler": node("KSampler", model=["lora", 0], positive=["image", 0], latent_image=["image", 2]),
        "cut": node("LatentCut", samples=["sampler", 0]),
        "decode": node("VAEDecode", samples=["cut", 0], vae=["vae", 0]),
    }


def test_the_chain_of_a_model_and_where_it_begins(graph):
    assert chain(graph, "lora", "model") == ["lora", "model"]
    assert origin(graph, "lora", "model") == "model"
    assert (chain(graph, None, "model"), origin(graph, None, "model")) == ([], None)


def test_a_circle_has_no_chain(graph):
    graph["model"]["inputs"]["model"] = ["lora", 0]
    assert (chain(graph, "lora", "model"), origin(graph, "lora", "model")) == ([], None)


def test_file_names_of_known_loaders_only(graph):
    loaders = {"WanGGUFModelLoader": "model_name"}
    assert file_name(graph, "model", loaders) == "wan.gguf"
    assert file_name(graph, "lora", loaders) is None
    graph["model"]["inputs"]["model_name"] = ["text", 0]
    assert file_name(graph, "model", loaders) is None


def test_what_samples(graph):
    assert list(samplers(graph)) == ["sampler"]
    del graph["sampler"]["inputs"]["latent_image"]
    assert not is_sampler(graph, "sampler")
    assert list(samplers([])) == []


def test_a_samplers_latent_and_conditioning_without_its_pictures(graph):
    assert sorted(conditioned_by(graph, "sampler")) == ["combined", "image", "positive"]


def test_another_sampler_ends_the_search(graph):
    """The first pass has a model and a VAE of its own."""
    graph["second"] = node("KSampler", model=["model", 0], latent_image=["cut", 0], positive=["positive", 0])
    assert sorted(conditioned_by(graph, "second")) == ["cut", "positive"]


def test_the_sampler_behind_a_decoder(graph):
    assert latent_source(graph, "decode") == "sampler"
    assert latent_source(graph, "image") is None


@pytest.mark.parametrize("start", ["sampler", "cut"])
def test_latents_in_a_circle(graph, start):
    graph["sampler"]["inputs"]["latent_image"] = ["cut", 0]
    assert "cut" in conditioned_by(graph, "sampler")
    assert latent_source(graph, start) == "sampler"
    graph["cut"]["inputs"]["samples"] = ["cut", 0]
    assert latent_source(graph, "decode") is None


def test_reroutes_are_passed(graph):
    graph |= {"a": node("Reroute", **{"": ["model", 0]}), "b": node("Reroute", **{"": ["a", 0]})}
    graph["lora"]["inputs"]["model"] = ["b", 0]
    assert chain(graph, "lora", "model") == ["lora", "model"]
    graph["a"]["inputs"] = {"": ["b", 0]}
    assert source_of(graph, "lora", "model") is None  # a circle of reroutes
    graph["a"]["inputs"] = {}
    assert source_of(graph, "lora", "model") == "a"  # an empty one


@pytest.mark.parametrize("kind", ["ComfySwitchNode", "ComfySoftSwitchNode"])
@pytest.mark.parametrize(("position", "behind"), [(True, "lora"), (False, "model"), (["x", 0], "switch")])
def test_switches_in_a_known_position_are_passed(graph, kind, position, behind):
    graph["switch"] = node(kind, switch=position, on_true=["lora", 0], on_false=["model", 0])
    graph["sampler"]["inputs"]["model"] = ["switch", 0]
    assert source_of(graph, "sampler", "model") == behind


def test_dependence_is_on_everything_before(graph):
    assert depends(graph, "decode", "model")
    assert depends(graph, "decode", "decode")
    assert not depends(graph, "image", "model")


@pytest.mark.parametrize("damage", [None, 7, "text", [], {}, [None, 0], [[], 0], ["gone", 0], ["model"], [1, 2, 3]])
def test_every_part_of_the_graph_may_be_damaged(graph, damage):
    """An answer of the right kind, never an exception."""
    for name, value in copy.deepcopy(graph).items():
        for damaged in (
            {**graph, name: damage},
            {**graph, name: {**value, "class_type": damage}},
            {**graph, name: {**value, "inputs": damage}},
            *({**graph, name: {**value, "inputs": {**value["inputs"], key: damage}}} for key in value["inputs"]),
        ):
            assert set(samplers(damaged)) <= {"sampler"}
            assert all(isinstance(found, str) for found in conditioned_by(damaged, "sampler"))
            assert latent_source(damaged, "decode") in ("sampler", None)
            assert set(chain(damaged, "sampler", "model")) <= {"sampler", "lora", "model", "gone"}
