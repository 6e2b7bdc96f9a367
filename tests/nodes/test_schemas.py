"""Every node, input and output is described; ids, types, ranges and defaults are those that workflows rely on."""

import pytest

from wan_gguf.convert.ggml_types import FILE_TYPES
from wan_gguf.host.paths import register_folders
from wan_gguf.host.video_codecs import PIXEL_FORMATS
from wan_gguf.host.video_memory import TILINGS
from wan_gguf.nodes.category import CATEGORY
from wan_gguf.nodes.extension import discover_nodes
from wan_gguf.sampling.presets import PRESETS
from wan_gguf.text.negative import NEGATIVE_POLICIES

FILES = object()  # a list of files: anything
OPTIONAL = {  # added after workflows were saved without them
    ("WanGGUFModelLoader", "mode"),
    ("WanGGUFPrompt", "cache"),
    *(("WanGGUFSampler", name) for name in ("preset", "low_noise_model", "cfg_low_noise", "boundary")),
    ("WanGGUFImageToVideo", "start_image"),  # without it: text to video
    *(("WanGGUFConvert", name) for name in ("lora_name", "lora_strength", "overwrite", "plain")),  # seldom needed
}
NODES = {  # id -> (inputs in order: (id, type, values to check), output types)
    "WanGGUFModelLoader": (
        [
            ("model_name", "COMBO", {"options": FILES}),
            ("dtype", "COMBO", {"options": ["auto", "bf16", "fp16", "fp32"], "default": "auto"}),
            ("mode", "COMBO", {"options": ["exact", "int8"], "default": "exact"}),
        ],
        ["MODEL"],
    ),
    "WanGGUFLoraLoader": (
        [
            ("model", "MODEL", {}),
            ("lora_name", "COMBO", {"options": FILES}),
            ("strength", "FLOAT", {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01}),
        ],
        ["MODEL", "STRING"],
    ),
    "WanGGUFRecordImportance": (
        [
            ("model", "MODEL", {}),
            ("filename_prefix", "STRING", {"default": "wan_gguf/importance"}),
            ("probed_steps", "INT", {"default": 4, "min": 0, "max": 100}),
            ("sigma_min", "FLOAT", {"default": 0.0, "min": 0.0, "max": 1.0}),
            ("sigma_max", "FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0}),
        ],
        ["MODEL"],
    ),
    "WanGGUFTextEncoderLoader": ([("encoder_name", "COMBO", {"options": FILES})], ["CLIP"]),
    "WanGGUFPrompt": (
        [
            ("clip", "CLIP", {}),
            ("positive", "STRING", {"multiline": True, "default": ""}),
            ("negative", "STRING", {"multiline": True, "default": ""}),
            ("default_negative", "COMBO", {"options": list(NEGATIVE_POLICIES), "default": "prompt language"}),
            ("cache", "BOOLEAN", {"default": True}),
        ],
        ["CONDITIONING", "CONDITIONING", "STRING"],
    ),
    "WanGGUFEmptyLatent": (
        [
            ("vae", "VAE", {}),
            ("width", "INT", {"default": 832, "step": 16, "min": 16}),
            ("height", "INT", {"default": 480, "step": 16, "min": 16}),
            ("frames", "INT", {"default": 81, "step": 4, "min": 1}),
            ("batch_size", "INT", {"default": 1, "min": 1}),
        ],
        ["LATENT"],
    ),
    "WanGGUFImageToVideo": (
        [
            ("positive", "CONDITIONING", {}),
            ("negative", "CONDITIONING", {}),
            ("vae", "VAE", {}),
            ("width", "INT", {"default": 832, "step": 16, "min": 16}),
            ("height", "INT", {"default": 480, "step": 16, "min": 16}),
            ("frames", "INT", {"default": 81, "step": 4, "min": 1}),
            ("batch_size", "INT", {"default": 1, "min": 1}),
            ("size_mode", "COMBO", {"options": ["exact", "image aspect ratio"], "default": "exact"}),
            ("start_image", "IMAGE", {}),
        ],
        ["CONDITIONING", "CONDITIONING", "LATENT"],
    ),
    "WanGGUFSampler": (
        [
            ("model", "MODEL", {}),
            ("positive", "CONDITIONING", {}),
            ("negative", "CONDITIONING", {}),
            ("latent", "LATENT", {}),
            ("seed", "INT", {"control_after_generate": True, "min": 0, "max": 2**64 - 1}),
            ("steps", "INT", {"default": 40, "min": 1}),
            ("cfg", "FLOAT", {"default": 5.0, "min": 1.0, "max": 15.0}),
            ("shift", "FLOAT", {"default": 5.0}),
            ("solver", "COMBO", {"options": ["unipc", "dpm++", "euler"], "default": "unipc"}),
            ("cfg_mode", "COMBO", {"options": ["batched", "split"], "default": "batched"}),
            ("preset", "COMBO", {"options": list(PRESETS), "default": "custom"}),
            ("low_noise_model", "MODEL", {}),
            ("cfg_low_noise", "FLOAT", {"default": 0.0, "min": 0.0, "max": 15.0}),
            ("boundary", "FLOAT", {"default": 0.0, "min": 0.0, "max": 1.0}),
        ],
        ["LATENT"],
    ),
    "WanGGUFConvert": (
        [
            ("source_name", "COMBO", {"options": FILES}),
            ("file_type", "COMBO", {"options": list(FILE_TYPES), "default": "Q4_K_M"}),
            ("file_name", "STRING", {"default": ""}),
            ("lora_name", "COMBO", {"options": FILES, "default": "none"}),
            ("lora_strength", "FLOAT", {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01}),
            ("overwrite", "BOOLEAN", {"default": False}),
            ("plain", "BOOLEAN", {"default": False}),
        ],
        ["STRING"],
    ),
    "WanGGUFPromptList": (
        [
            ("text", "STRING", {"multiline": True, "default": ""}),
            ("kind", "COMBO", {"options": ["text", "csv", "jsonl"], "default": "text"}),
            ("list_name", "COMBO", {"options": FILES, "default": "none"}),
            ("seed_policy", "COMBO", {"options": ["from the row", "fixed", "increment"], "default": "from the row"}),
            ("seed", "INT", {"control_after_generate": True, "min": 0, "max": 2**64 - 1}),
            ("negative", "STRING", {"multiline": True, "default": ""}),
            ("cfg", "FLOAT", {"default": 5.0, "min": 1.0, "max": 15.0}),
            ("steps", "INT", {"default": 40, "min": 1}),
            ("width", "INT", {"default": 832, "step": 16, "min": 16}),
            ("height", "INT", {"default": 480, "step": 16, "min": 16}),
            ("frames", "INT", {"default": 81, "step": 4, "min": 1}),
            ("name_prefix", "STRING", {"default": "list/"}),
        ],
        ["STRING", "STRING", "INT", "FLOAT", "INT", "INT", "INT", "INT", "STRING"],
    ),
    "WanGGUFVAEDecode": ([("samples", "LATENT", {}), ("vae", "VAE", {})], ["IMAGE"]),
    "WanGGUFLoadLatent": ([("latent_name", "COMBO", {"options": FILES})], ["LATENT"]),
    "WanGGUFSaveVideo": (
        [
            ("samples", "LATENT", {}),
            ("vae", "VAE", {}),
            ("filename_prefix", "STRING", {"default": "wan_gguf/video"}),
            ("fps", "FLOAT", {"default": 0.0, "min": 0.0, "max": 240.0}),
            ("codec", "COMBO", {"options": ["h264", "h265", "vp9", "ffv1"], "default": "h264"}),
            ("crf", "INT", {"default": -1, "min": -1, "max": 63}),
            ("pixel_format", "COMBO", {"options": list(PIXEL_FORMATS), "default": "auto"}),
            ("tiling", "COMBO", {"options": list(TILINGS), "default": "auto"}),
            ("images", "BOOLEAN", {"default": False}),
            ("keep_latent", "BOOLEAN", {"default": True}),
        ],
        ["VIDEO", "IMAGE"],
    ),
}


@pytest.fixture(scope="module")
def schemas():
    register_folders()
    return {schema.node_id: schema for schema in (node.GET_SCHEMA() for node in discover_nodes())}


def test_these_nodes_exist_and_no_others(schemas):
    assert sorted(schemas) == sorted(NODES)


@pytest.mark.parametrize("node_id", NODES)
def test_inputs_are_as_workflows_expect_them(schemas, node_id):
    expected = NODES[node_id][0]
    inputs = schemas[node_id].inputs
    assert [(entry.id, entry.io_type) for entry in inputs] == [(name, kind) for name, kind, _ in expected]
    for entry, (name, _, values) in zip(inputs, expected, strict=True):
        found = {key: getattr(entry, key) for key in values}
        assert {key: FILES if values[key] is FILES else found[key] for key in found} == values, name
        assert entry.optional == ((node_id, name) in OPTIONAL)


@pytest.mark.parametrize("node_id", NODES)
def test_outputs_are_as_workflows_expect_them(schemas, node_id):
    assert [output.io_type for output in schemas[node_id].outputs] == NODES[node_id][1]


def test_lists_go_through_the_sampler_as_a_whole(schemas):
    """The host runs all other nodes for one row after the other."""
    assert [name for name, schema in schemas.items() if schema.is_input_list] == ["WanGGUFSampler"]
    assert [output.is_output_list for output in schemas["WanGGUFSampler"].outputs] == [True]
    assert [output.is_output_list for output in schemas["WanGGUFPromptList"].outputs] == [True] * 9


@pytest.mark.parametrize("node_id", NODES)
def test_everything_is_named_and_explained(schemas, node_id):
    schema = schemas[node_id]
    assert schema.category == CATEGORY
    assert schema.display_name.startswith("Wan GGUF ")
    assert len(schema.description) > 20
    assert any("\u4e00" <= char <= "\u9fff" for alias in schema.search_aliases for char in alias), "no Chinese alias"
    for entry in [*schema.inputs, *schema.outputs]:
        assert entry.display_name, f"{node_id}.{entry.id} has no name"
        assert entry.tooltip and len(entry.tooltip) > 20, f"{node_id}.{entry.id} has no tooltip"
        assert entry.tooltip.endswith("."), f"{node_id}.{entry.id}: a tooltip is a sentence"


UNITS = {
    "width": "pixels", "height": "pixels", "frames": "frames", "batch_size": "videos", "steps": "steps",
    "cfg": "1.0 to 15.0", "shift": "factor", "seed": "Number", "strength": "factor", "lora_strength": "factor",
    "cfg_low_noise": "1.0 to 15.0", "boundary": "0 to 1",
    "fps": "Frames per second", "crf": "0 (best) to 51",
    "probed_steps": "steps", "sigma_min": "0 to 1", "sigma_max": "0 to 1",
}  # fmt: skip


def test_numbers_have_a_unit_or_a_range_in_their_tooltip(schemas):
    numbers = {
        entry.id: entry.tooltip
        for schema in schemas.values()
        for entry in schema.inputs
        if entry.io_type in ("INT", "FLOAT")
    }
    assert numbers.keys() == UNITS.keys()
    assert [name for name, tooltip in numbers.items() if UNITS[name] not in tooltip] == []


def test_modules_without_nodes_are_helpers(schemas):
    """Each class is listed once, although helper modules sit in the same folder."""
    assert len(discover_nodes()) == len(schemas)
