"""The workflows of the pack fit the nodes: links, types, widget values; and both forms of one say the same."""

import importlib
import json

import pytest

from wan_gguf.host.paths import register_folders
from wan_gguf.nodes.extension import discover_nodes

HOST_NODES = {  # type -> the host's module
    "VAELoader": "nodes",
    "SaveImage": "nodes",
    "CreateVideo": "comfy_extras.nodes_video",
    "SaveVideo": "comfy_extras.nodes_video",
}
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}
NOTES = {"MarkdownNote"}  # of the frontend: no inputs, not sent to the server
API_IDS = dict(
    enumerate(
        ["model", "text_encoder", "vae", "prompt", "latent", "sampler", "decode", "video", "save_video", "save_frames"],
        start=1,
    )
)
EXAMPLES = ["wan_gguf_reference_text_to_video", "wan2_2_ti2v_5b_text_to_video"]
FILES = {"model_name", "encoder_name", "vae_name"}


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
    """Names of the node's widgets in order, the one the frontend adds to a seed included."""
    names = []
    for name, (kind, options) in input_specs(cls).items():
        if kind in WIDGET_TYPES and not options.get("forceInput"):
            names += [name, "control_after_generate"] if options.get("control_after_generate") else [name]
    return names


def fault(name: str, value, kind: str, options: dict) -> str | None:
    """Why the node would refuse the value, or None; file names are not judged."""
    allowed = {"INT": int, "FLOAT": (int, float), "STRING": str, "COMBO": str, "COMFY_DYNAMICCOMBO_V3": str}[kind]
    if not isinstance(value, allowed) or isinstance(value, bool):
        return f"{name}: {value!r} is not {kind}"
    if kind in ("INT", "FLOAT") and not options.get("min", value) <= value <= options.get("max", value):
        return f"{name}: {value} is out of range"
    if name in FILES or kind not in ("COMBO", "COMFY_DYNAMICCOMBO_V3"):
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
        values.pop("control_after_generate", None)
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


def test_the_real_model_workflow_has_the_official_settings_and_links_to_its_files(root, classes):
    workflow = load(root, EXAMPLES[1])
    inputs = {key: value for node in to_api(workflow, classes).values() for key, value in node["inputs"].items()}
    official = {"width": 1280, "height": 704, "frames": 121, "fps": 24.0, "steps": 50, "cfg": 5.0, "shift": 5.0}
    assert {key: inputs[key] for key in official} == official
    assert inputs["solver"] == "unipc"
    models = [model for node in workflow["nodes"] for model in node["properties"].get("models", [])]
    assert {model["name"] for model in models} == {inputs[key] for key in FILES}
    assert [model["directory"] for model in models] == ["diffusion_models", "text_encoders", "vae"]
    assert [model["url"].rsplit("/", 1)[1] for model in models] == [model["name"] for model in models]


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 0), ("steps", "20"), ("cfg", 15.5), ("solver", "heun"), ("seed", True), ("cfg", None)]
)
def test_a_wrong_value_is_caught(classes, name, value):
    assert fault(name, value, *input_specs(classes["WanGGUFSampler"])[name])
