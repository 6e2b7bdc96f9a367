"""Which input of a workflow a column goes to."""

import re

import pytest

from wan_gguf.cli.batch_mapping import COLUMNS, TAKES, Target, find_target, parse_set, with_values
from wan_gguf.cli.errors import CliError
from wan_gguf.cli.workflow import load_workflow


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


_PAIR = {"positive": ["50", 0], "negative": ["50", 1], "cfg": 3.5, "steps": 20}
STOCK = {  # the host's own two-sampler template for Wan2.2, what matters of it
    "6": node("CLIPTextEncode", text="good", clip=["38", 0]),
    "7": node("CLIPTextEncode", text="bad", clip=["38", 0]),
    "50": node("WanImageToVideo", positive=["6", 0], negative=["7", 0], width=832, height=480, length=81),
    "57": node("KSamplerAdvanced", add_noise="enable", noise_seed=1, **_PAIR),
    "58": node("KSamplerAdvanced", add_noise="disable", noise_seed=0, **_PAIR),
}


def test_the_bundled_workflow_takes_every_column():
    found = {column: str(find_target(load_workflow(), column)) for column in COLUMNS}
    assert found == {
        "prompt": "prompt.positive",
        "negative": "prompt.negative",
        "seed": "sampler.seed",
        "cfg": "sampler.cfg",
        "steps": "sampler.steps",
        "width": "latent.width",
        "height": "latent.height",
        "frames": "latent.frames",
    }


def test_stock_text_encoders_are_told_apart_by_what_they_feed():
    assert find_target(STOCK, "prompt") == Target("6", "text")
    assert find_target(STOCK, "negative") == Target("7", "text")
    assert find_target(STOCK, "frames") == Target("50", "length")


def test_the_seed_goes_to_the_sampler_that_draws_noise():
    assert find_target(STOCK, "seed") == Target("57", "noise_seed")


def test_two_inputs_that_could_be_meant_are_both_named():
    with pytest.raises(CliError, match=r"57\.cfg and 58\.cfg could take it; choose with --set NODE\.INPUT=cfg"):
        find_target(STOCK, "cfg")


def test_a_column_nothing_takes_is_said():
    with pytest.raises(CliError, match="no node of the workflow is known to take it; name one with --set"):
        find_target({"1": node("EmptyImage", width=8)}, "prompt")


def test_a_value_from_a_primitive_node_is_changed_there_and_a_computed_one_refused():
    workflow = {"1": node("KSampler", seed=["2", 0], steps=["3", 0]), "2": node("PrimitiveInt", value=7)}
    workflow["3"] = node("SomeMath", a=1)
    assert find_target(workflow, "seed") == Target("2", "value")
    with pytest.raises(CliError, match=r"1\.steps is linked to node 3 \(SomeMath\)"):
        find_target(workflow, "steps")


def test_a_circle_of_conditioning_nodes_ends():
    workflow = {
        "1": node("ConditioningCombine", conditioning_1=["2", 0], conditioning_2=["3", 0]),
        "2": node("ConditioningCombine", conditioning_1=["1", 0], conditioning_2=["1", 0]),
        "3": node("CLIPTextEncode", text="x"),
        "4": node("KSampler", positive=["1", 0], negative=["gone", 0]),
    }
    assert find_target(workflow, "prompt") == Target("3", "text")


def test_set_names_an_input_of_any_node():
    assert parse_set("58.cfg=cfg", STOCK) == ("cfg", Target("58", "cfg"))
    nested = {"a.b:3": node("X", text="")}
    assert parse_set("a.b:3.text=prompt", nested) == ("prompt", Target("a.b:3", "text"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("58.cfg", "must be NODE.INPUT=COLUMN, got '58.cfg'"),
        ("cfg=cfg", "must be NODE.INPUT=COLUMN"),
        ("58.cfg=size", "there is no column 'size'; columns: prompt, negative"),
        ("99.cfg=cfg", "the workflow has no node '99'; it has: 6, 7"),
        ("58.cgf=cfg", "node 58 has no input 'cgf'; it has: add_noise, noise_seed, positive"),
    ],
)
def test_a_wrong_set_says_what_there_is(text, message):
    with pytest.raises(CliError, match=message):
        parse_set(text, STOCK)


def test_values_change_a_copy_only():
    changed = with_values(STOCK, {Target("6", "text"): "new", Target("57", "noise_seed"): 2**64 - 1})
    assert (changed["6"]["inputs"]["text"], changed["57"]["inputs"]["noise_seed"]) == ("new", 2**64 - 1)
    assert STOCK["6"]["inputs"]["text"] == "good"


def test_our_own_nodes_have_the_inputs_the_table_names(root):
    """Read from the schemas' source, because the host takes long to import."""
    for class_type, inputs in TAKES.items():
        (source,) = [text for text in _sources(root) if f'node_id="{class_type}"' in text] or [None]
        if class_type.startswith("WanGGUF"):
            assert source is not None
            assert [name for name in inputs.values() if not re.search(rf'\.Input\(\s*"{name}"', source)] == []


def _sources(root):
    return [path.read_text(encoding="utf-8") for path in sorted((root / "nodes").glob("*.py"))]
