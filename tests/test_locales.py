"""Both languages are complete and valid, with nothing superfluous; English equals the schemas' own texts."""

import json
import re

import pytest

from wan_gguf.host.paths import register_folders
from wan_gguf.nodes.category import CATEGORY
from wan_gguf.nodes.extension import discover_nodes

LANGUAGES = ["en", "zh"]
ESCAPE = re.compile(r"\{'([{}|@])'\}")
HAN = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def english() -> dict[str, str]:
    """All texts of the schemas by key, unescaped."""
    register_folders()  # the loaders' file lists need them
    schemas = [node.GET_SCHEMA() for node in discover_nodes()]
    return flatten({schema.node_id: schema_texts(schema) for schema in schemas})


def load(root, language: str, file: str) -> dict:
    return json.loads((root / "locales" / language / file).read_text(encoding="utf-8"))


def schema_texts(schema) -> dict:
    """What the node's entry of nodeDefs.json holds in English, unescaped."""
    inputs = {entry.id: {"name": entry.display_name, "tooltip": entry.tooltip} for entry in schema.inputs}
    outputs = {str(i): {"name": out.display_name, "tooltip": out.tooltip} for i, out in enumerate(schema.outputs)}
    return {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": inputs,
        "outputs": outputs,
    }


def flatten(tree, path: str = "") -> dict[str, str]:
    """A nested dict of texts -> {"WanGGUFSampler.inputs.seed.name": text}."""
    if isinstance(tree, str):
        return {path: tree}
    return {key: text for name, branch in tree.items() for key, text in flatten(branch, f"{path}.{name}").items()}


def message_faults(messages: dict[str, str]) -> list[str]:
    """Keys whose text is empty, has outer spaces, or holds a bare `{ } | @` (the frontend reads them as syntax)."""
    bare = re.compile(r"[{}|@]")
    return [
        key for key, text in messages.items() if not text or text != text.strip() or bare.search(ESCAPE.sub("", text))
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_key_is_there_and_no_other(root, english, language):
    found = flatten(load(root, language, "nodeDefs.json"))
    assert sorted(english.keys() - found.keys()) == []
    assert sorted(found.keys() - english.keys()) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_category_is_translated_and_nothing_else(root, language):
    main = load(root, language, "main.json")
    assert {group: list(names) for group, names in main.items()} == {"nodeCategories": [CATEGORY]}
    assert message_faults(flatten(main)) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_is_valid(root, language):
    assert message_faults(flatten(load(root, language, "nodeDefs.json"))) == []


def test_english_equals_the_schemas(root, english):
    found = {key: ESCAPE.sub(r"\1", text) for key, text in flatten(load(root, "en", "nodeDefs.json")).items()}
    assert {key: text for key, text in found.items() if english.get(key) != text} == {}


def test_chinese_is_chinese(root):
    """Texts hold Chinese characters, except the names that the host keeps in Latin letters."""
    texts = flatten(load(root, "zh", "nodeDefs.json"))
    kept = {"VAE", "CLIP", "CFG", "Latent"}
    assert [key for key, text in texts.items() if not HAN.search(text) and text not in kept] == []


def test_numbers_are_the_same_in_both_languages(root):
    """A tooltip changed in one language only shows in its numbers first."""
    numbers = re.compile(r"\d+(?:\.\d+)?")
    found = {language: flatten(load(root, language, "nodeDefs.json")) for language in LANGUAGES}
    different = [
        key
        for key, text in found["en"].items()
        if sorted(numbers.findall(text)) != sorted(numbers.findall(found["zh"][key]))
    ]
    assert different == []


def test_both_folders_hold_the_same_files(root):
    names = {language: sorted(file.name for file in (root / "locales" / language).iterdir()) for language in LANGUAGES}
    assert names == {language: ["main.json", "nodeDefs.json"] for language in LANGUAGES}


@pytest.mark.parametrize("text", ["", " a", "a | b", "a {b}", "a@b", "{'x'}", "a {'|' b"])
def test_a_wrong_message_is_caught(text):
    assert message_faults({"key": text}) == ["key"]


@pytest.mark.parametrize("text", ["a", "a {'|'} b", "{'@'}", "f({'{'}x{'}'})"])
def test_a_right_message_passes(text):
    assert message_faults({"key": text}) == []
