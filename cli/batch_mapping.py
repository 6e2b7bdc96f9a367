"""Where the columns of a prompt list go in a workflow in API form: found by node class, or said with --set.

A column goes to the one input that takes it; a value that comes from a primitive node is changed there. Prompts of
stock text encoders are told apart by following the links of `positive` and `negative` upwards from the samplers. Two
inputs that could be meant are an error that names both.
"""

import json
from dataclasses import dataclass

from .errors import CliError

COLUMNS = ("prompt", "negative", "seed", "cfg", "steps", "width", "height", "frames")
_SIZE = {"width": "width", "height": "height"}
_LENGTH = {**_SIZE, "frames": "length"}
_NOISE = {"seed": "noise_seed", "cfg": "cfg", "steps": "steps"}
# class -> column -> input
TAKES = {
    "WanGGUFPrompt": {"prompt": "positive", "negative": "negative"},
    "WanGGUFSampler": {"seed": "seed", "cfg": "cfg", "steps": "steps"},
    "WanGGUFEmptyLatent": {**_SIZE, "frames": "frames"},
    "WanGGUFImageToVideo": {**_SIZE, "frames": "frames"},
    "KSampler": {"seed": "seed", "cfg": "cfg", "steps": "steps"},
    "KSamplerAdvanced": _NOISE,
    "SamplerCustom": {"seed": "noise_seed", "cfg": "cfg"},
    "RandomNoise": {"seed": "noise_seed"},
    "CFGGuider": {"cfg": "cfg"},
    "BasicScheduler": {"steps": "steps"},
    "EmptyHunyuanLatentVideo": _LENGTH,
    "Wan22ImageToVideoLatent": _LENGTH,
    "WanImageToVideo": _LENGTH,
    "EmptyLatentImage": _SIZE,
}
_ENCODER, _ENCODER_TEXT = "CLIPTextEncode", "text"
_SIDES = {"prompt": "positive", "negative": "negative"}


@dataclass(frozen=True, order=True)
class Target:
    """One input of one node."""

    node: str
    input: str

    def __str__(self) -> str:
        return f"{self.node}.{self.input}"


def parse_set(text: str, workflow: dict) -> tuple[str, Target]:
    """ "12.seed=seed" -> (column, its target). Raises CliError if the workflow has no such input."""
    place, equals, column = text.rpartition("=")
    node, dot, name = place.rpartition(".")
    if not (equals and dot and node and name):
        raise CliError(f"--set must be NODE.INPUT=COLUMN, got '{text}'; example: 12.noise_seed=seed")
    if column not in COLUMNS:
        raise CliError(f"--set {text}: there is no column '{column}'; columns: {', '.join(COLUMNS)}")
    if node not in workflow:
        raise CliError(f"--set {text}: the workflow has no node '{node}'; it has: {', '.join(workflow)}")
    if name not in workflow[node]["inputs"]:
        known = ", ".join(workflow[node]["inputs"])
        raise CliError(f"--set {text}: node {node} has no input '{name}'; it has: {known}")
    return column, Target(node, name)


def find_target(workflow: dict, column: str) -> Target:
    """The input a column goes to. Raises CliError if there is none, or more than one."""
    found = {
        Target(node, TAKES[body["class_type"]][column])
        for node, body in workflow.items()
        if column in TAKES.get(body["class_type"], {}) and not _adds_no_noise(body, column)
    }
    if column in _SIDES:
        found |= {Target(node, _ENCODER_TEXT) for node in _encoders(workflow, _SIDES[column])}
    targets = sorted({_source(workflow, target) for target in found})
    if not targets:
        raise CliError(f"no node of the workflow is known to take it; name one with --set NODE.INPUT={column}")
    if len(targets) > 1:
        raise CliError(f"{' and '.join(map(str, targets))} could take it; choose with --set NODE.INPUT={column}")
    return targets[0]


def _adds_no_noise(body: dict, column: str) -> bool:
    """The second of two samplers in a row draws no noise, so its seed is without effect."""
    return column == "seed" and body["inputs"].get("add_noise") == "disable"


def _source(workflow: dict, target: Target) -> Target:
    """The target, or the primitive node that feeds it. Raises CliError if the value is computed."""
    link = workflow[target.node]["inputs"].get(target.input)
    if not isinstance(link, list):
        return target
    origin = str(link[0])
    body = workflow.get(origin, {"class_type": "", "inputs": {}})
    if body["class_type"].startswith("Primitive") and not isinstance(body["inputs"].get("value", []), list):
        return Target(origin, "value")
    raise CliError(f"{target} is linked to node {origin} ({body['class_type']}), which this program cannot set")


def _encoders(workflow: dict, side: str) -> set[str]:
    """The text encoders that the inputs called `side` come from, through nodes that pass conditioning on."""
    found: set[str] = set()
    for body in workflow.values():
        _follow(workflow, body["inputs"].get(side), found, set())
    return found


def _follow(workflow: dict, link: object, found: set[str], seen: set[tuple[str, int]]) -> None:
    if not isinstance(link, list) or len(link) != 2 or str(link[0]) not in workflow:
        return
    node, slot = str(link[0]), link[1]
    if (node, slot) in seen:
        return
    seen.add((node, slot))
    inputs = workflow[node]["inputs"]
    if workflow[node]["class_type"] == _ENCODER:
        found.add(node)
    elif "positive" in inputs and "negative" in inputs:
        _follow(workflow, inputs["positive" if slot == 0 else "negative"], found, seen)
    else:
        for name, value in inputs.items():
            if name.startswith("conditioning"):
                _follow(workflow, value, found, seen)


def with_values(workflow: dict, values: dict[Target, object]) -> dict:
    """A copy of the workflow with other values."""
    changed = json.loads(json.dumps(workflow))
    for target, value in values.items():
        changed[target.node]["inputs"][target.input] = value
    return changed
