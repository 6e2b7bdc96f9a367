"""The workflows of the pack fit the nodes: links, types, widget values; and both forms of one say the same."""

import importlib
import json

import pytest

from wan_gguf.host.paths import register_folders
from wan_gguf.nodes.extension import discover_nodes
from wan_gguf.text.language import detect_language
from wan_gguf.text.prompt_list import load_prompt_list, parse_prompt_list

HOST_NODES = {  # type -> the host's module
    "VAELoader": "nodes",
    "LoadImage": "nodes",
    "SaveImage": "nodes",
}
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}
NOTES = {"MarkdownNote"}  # of the frontend: no inputs, not sent to the server
API_IDS = dict(
    enumerate(
        ["model", "text_encoder", "vae", "prompt", "latent", "sampler", "save_video", "save_frames"],
        start=1,
    )
)
REAL_MODELS = {  # name -> official settings: wan/configs of Wan2.2
    "wan2_2_ti2v_5b_text_to_video": {
        "width": 1280, "height": 704, "frames": 121, "fps": 24.0, "steps": 50, "cfg": 5.0, "shift": 5.0,
    },
    "wan2_2_ti2v_5b_image_to_video": {
        "width": 1280, "height": 704, "frames": 121, "fps": 24.0, "steps": 50, "cfg": 5.0, "shift": 5.0,
        "size_mode": "image aspect ratio",
    },
    "wan2_2_t2v_a14b_text_to_video": {
        "width": 832, "height": 480, "frames": 81, "fps": 16.0, "steps": 40, "cfg": 4.0, "cfg_low_noise": 3.0,
        "shift": 12.0, "boundary": 0.875,
    },
    "wan2_2_i2v_a14b_image_to_video": {
        "width": 832, "height": 480, "frames": 81, "fps": 16.0, "steps": 40, "cfg": 3.5, "cfg_low_noise": 3.5,
        "shift": 5.0, "boundary": 0.9, "size_mode": "image aspect ratio",
    },
}  # fmt: skip
EXAMPLES = ["wan_gguf_reference_text_to_video", "wan_gguf_reference_prompt_list", *REAL_MODELS]
FILES = {"model_name", "encoder_name", "vae_name"}
UPLOADS = {"image"}  # files of the host's input folder


@pytest.fixture(scope="module")
def classes() -> dict[str, type]:
    register_folders()
    ours = {node.GET_SCHEMA().node_id: node for node in discover_nodes()}
    return ours | {name: getattr(importlib.import_module(module), name) for name, module in HOST_NODES.items()}


def load(root, name: str) -> dict:
    return json.loads((root / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))


def api_workflow(root) -> dict:
    return json.loads((root / "cli/workflows/text_to_video.api.json").read_text(encoding="utf-8"))


def input_specs(cls: type) -> dict[str, tuple[str, dict]]:
    """{input: (type, options)} in order; a plain list of choices counts as COMBO."""
    declared = cls.INPUT_TYPES()
    specs = {}
    for name, spec in {**declared.get("required", {}), **declared.get("optional", {})}.items():
        kind, options = spec[0], spec[1] if len(spec) > 1 else {}
        specs[name] = ("COMBO", {"options": kind, **options}) if isinstance(kind, list) else (kind, options)
    return specs


def widget_names(cls: type) -> list[str]:
    """Names of the node's widgets in order, those the frontend adds to a seed and to an image included."""
    names = []
    for name, (kind, options) in input_specs(cls).items():
        if kind in WIDGET_TYPES and not options.get("forceInput"):
            added = {"control_after_generate": "control_after_generate", "image_upload": "upload"}
            names += [name, *(widget for option, widget in added.items() if options.get(option))]
    return names


def fault(name: str, value, kind: str, options: dict) -> str | None:
    """Why the node would refuse the value, or None; file names are not judged."""
    numbers, texts = {"BOOLEAN": bool, "INT": int, "FLOAT": (int, float)}, (str,)
    if not isinstance(value, numbers.get(kind, texts)) or (isinstance(value, bool) and kind != "BOOLEAN"):
        return f"{name}: {value!r} is not {kind}"
    if kind in ("INT", "FLOAT") and not options.get("min", value) <= value <= options.get("max", value):
        return f"{name}: {value} is out of range"
    if name in FILES | UPLOADS or kind not in ("COMBO", "COMFY_DYNAMICCOMBO_V3"):
        return None
    choices = [choice["key"] if isinstance(choice, dict) else choice for choice in options["options"]]
    return None if value in choices else f"{name}: {value!r} is not one of {choices}"


def to_api(workflow: dict, classes: dict[str, type]) -> dict:
    """The API form of a UI workflow, as the frontend makes it: widget values by position, then links."""
    links = {link[0]: [link[1], link[2]] for link in workflow["links"]}
    result = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        values = dict(zip(widget_names(classes[node["type"]]), node["widgets_values"], strict=True))
        for added in ("control_after_generate", "upload"):
            values.pop(added, None)
        values |= {slot["name"]: links[slot["link"]] for slot in node["inputs"] if slot["link"] is not None}
        result[node["id"]] = {"class_type": node["type"], "inputs": values}
    return result


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_graph_is_consistent(root, name):
    workflow = load(root, name)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert workflow["version"] == 0.4
    assert len(nodes) == len(workflow["nodes"]), "an id twice"
    assert workflow["last_node_id"] == max(nodes)
    assert workflow["last_link_id"] == max(link[0] for link in workflow["links"])
    for link_id, source, source_slot, target, target_slot, kind in workflow["links"]:
        output, slot = nodes[source]["outputs"][source_slot], nodes[target]["inputs"][target_slot]
        assert link_id in output["links"]
        assert slot["link"] == link_id
        assert output["type"] == kind
        assert slot["type"] == kind
    attached = [link for node in nodes.values() for output in node["outputs"] for link in output["links"] or []]
    taken = [slot["link"] for node in nodes.values() for slot in node["inputs"] if slot["link"] is not None]
    assert sorted(attached) == sorted(taken) == sorted(link[0] for link in workflow["links"])


@pytest.mark.parametrize("name", EXAMPLES)
def test_slots_and_values_fit_the_nodes(root, classes, name):
    for node in load(root, name)["nodes"]:
        if node["type"] in NOTES:
            continue
        cls = classes[node["type"]]
        specs = input_specs(cls)
        assert {slot["name"]: slot["type"] for slot in node["inputs"]} == {
            key: kind for key, (kind, _) in specs.items()
        }
        assert [output["type"] for output in node["outputs"]] == list(cls.RETURN_TYPES)
        names = widget_names(cls)
        assert len(node["widgets_values"]) == len(names), node["type"]
        values = dict(zip(names, node["widgets_values"], strict=True))
        assert values.pop("control_after_generate", "fixed") in ("fixed", "increment", "decrement", "randomize")
        assert values.pop("upload", "image") == "image"
        assert [found for key, value in values.items() if (found := fault(key, value, *specs[key]))] == []
        linked = [slot["name"] for slot in node["inputs"] if "widget" not in slot and slot["link"] is not None]
        required = set(cls.INPUT_TYPES()["required"]) - set(names)
        assert required <= set(linked), f"{node['type']}: an input is not connected"


@pytest.mark.parametrize("name", EXAMPLES)
def test_notes_are_in_both_languages(root, name):
    notes = [node["widgets_values"][0] for node in load(root, name)["nodes"] if node["type"] in NOTES]
    chinese = [sum("\u4e00" <= char <= "\u9fff" for char in note) >= 50 for note in notes]
    assert sorted(chinese) == [False, True]


@pytest.mark.parametrize("name", EXAMPLES)
def test_nodes_do_not_overlap(root, name):
    boxes = [(*node["pos"], *node["size"], node["id"]) for node in load(root, name)["nodes"]]
    title_px = 30
    for i, (x, y, width, height, first) in enumerate(boxes):
        for x2, y2, width2, height2, second in boxes[i + 1 :]:
            apart = x + width <= x2 or x2 + width2 <= x or y + height <= y2 - title_px or y2 + height2 <= y - title_px
            assert apart, f"nodes {first} and {second}"


def test_both_forms_of_the_reference_workflow_say_the_same(root, classes):
    exported = {
        API_IDS[node_id]: {
            "class_type": node["class_type"],
            "inputs": {
                key: [API_IDS[value[0]], value[1]] if isinstance(value, list) else value
                for key, value in node["inputs"].items()
            },
        }
        for node_id, node in to_api(load(root, EXAMPLES[0]), classes).items()
    }
    bundled = api_workflow(root)
    assert exported == {name: {key: node[key] for key in ("class_type", "inputs")} for name, node in bundled.items()}


def test_the_bundled_workflow_fits_the_nodes(root, classes):
    workflow = api_workflow(root)
    assert sorted(workflow) == sorted(API_IDS.values())
    for name, node in workflow.items():
        specs = input_specs(classes[node["class_type"]])
        assert set(classes[node["class_type"]].INPUT_TYPES()["required"]) <= set(node["inputs"]) <= set(specs), name
        for key, value in node["inputs"].items():
            if isinstance(value, list):
                source = classes[workflow[value[0]]["class_type"]]
                assert source.RETURN_TYPES[value[1]] == specs[key][0], f"{name}.{key}"
            else:
                assert fault(key, value, *specs[key]) is None


def test_the_bundled_workflow_uses_the_reference_model(root):
    workflow = api_workflow(root)
    inputs = {key: value for node in workflow.values() for key, value in node["inputs"].items()}
    assert inputs["model_name"] == "wan_reference_dit_f16.gguf"
    assert inputs["encoder_name"] == "wan_reference_umt5_f16.gguf"
    assert inputs["vae_name"] == "wan_reference_vae.safetensors"
    assert (inputs["width"], inputs["height"], inputs["frames"], inputs["fps"]) == (64, 64, 17, 16.0)


@pytest.mark.parametrize("name", REAL_MODELS)
def test_a_real_model_workflow_has_the_official_settings_and_links_to_its_files(root, classes, name):
    workflow = load(root, name)
    nodes = to_api(workflow, classes).values()
    inputs = {key: value for node in nodes for key, value in node["inputs"].items()}
    assert {key: inputs[key] for key in REAL_MODELS[name]} == REAL_MODELS[name]
    assert inputs["solver"] == "unipc"
    models = [model for node in workflow["nodes"] for model in node["properties"].get("models", [])]
    chosen = [node["inputs"][key] for node in nodes for key in sorted(FILES & node["inputs"].keys())]
    assert [model["name"] for model in models] == chosen
    transformers = ["diffusion_models"] * (2 if "a14b" in name else 1)
    assert [model["directory"] for model in models] == [*transformers, "text_encoders", "vae"]
    assert [model["url"].rsplit("/", 1)[1] for model in models] == [model["name"] for model in models]
    notes = [node["widgets_values"][0] for node in workflow["nodes"] if node["type"] in NOTES]
    assert all(f"[{model['name']}]({model['url']})" in note for model in models for note in notes)


@pytest.mark.parametrize("name", [name for name in REAL_MODELS if "a14b" in name])
def test_the_experts_are_connected_in_the_right_order(root, classes, name):
    graph = to_api(load(root, name), classes)
    sampler = next(node["inputs"] for node in graph.values() if node["class_type"] == "WanGGUFSampler")
    files = [graph[sampler[slot][0]]["inputs"]["model_name"] for slot in ("model", "low_noise_model")]
    task = "I2V" if "i2v" in name else "T2V"
    assert files == [f"Wan2.2-{task}-A14B-{noise}Noise-Q4_K_M.gguf" for noise in ("High", "Low")]


@pytest.mark.parametrize("name", [name for name in REAL_MODELS if "image_to_video" in name])
def test_the_sampler_takes_all_three_outputs_of_image_to_video(root, classes, name):
    graph = to_api(load(root, name), classes)
    sampler = next(node["inputs"] for node in graph.values() if node["class_type"] == "WanGGUFSampler")
    sources = [
        (graph[source]["class_type"], slot) for source, slot in map(sampler.get, ("positive", "negative", "latent"))
    ]
    assert sources == [("WanGGUFImageToVideo", slot) for slot in range(3)]


def test_the_prompt_list_has_rows_in_both_languages_and_reaches_every_node(root, classes):
    graph = to_api(load(root, "wan_gguf_reference_prompt_list"), classes)
    source, node = next((key, node) for key, node in graph.items() if node["class_type"] == "WanGGUFPromptList")
    rows = parse_prompt_list(node["inputs"]["text"], node["inputs"]["kind"])
    assert sorted(detect_language(row.prompt) for row in rows) == ["en", "en", "zh", "zh"]
    taken = [value for other in graph.values() for value in other["inputs"].values() if value in links_of(source)]
    assert sorted(slot for _, slot in taken) == list(range(9))
    assert graph[6]["inputs"]["seed"] == [source, 2]
    assert graph[7]["inputs"]["filename_prefix"] == [source, 8]


def test_the_example_list_is_for_the_reference_model_in_both_languages(root):
    rows = load_prompt_list(root / "example_workflows" / "prompts.csv")
    assert [detect_language(row.prompt) for row in rows] == ["en", "zh"]
    assert all(row.name is not None and row.seed is not None for row in rows)
    bundled = api_workflow(root)
    demo = {key: bundled["latent"]["inputs"][key] for key in ("width", "height", "frames")}
    demo["steps"] = bundled["sampler"]["inputs"]["steps"]
    assert [{key: getattr(row, key) for key in demo} for row in rows] == [demo] * 2


def links_of(source: int) -> list[list]:
    """All links that may begin at the node."""
    return [[source, slot] for slot in range(9)]


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 0), ("steps", "20"), ("cfg", 15.5), ("solver", "heun"), ("seed", True), ("cfg", None)]
)
def test_a_wrong_value_is_caught(classes, name, value):
    assert fault(name, value, *input_specs(classes["WanGGUFSampler"])[name])
