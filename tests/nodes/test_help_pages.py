"""Every node has a help page in both languages and one for all others, and each page explains every input."""

import re

import pytest

from wan_gguf.host.paths import register_folders
from wan_gguf.nodes.extension import discover_nodes

HAN = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def schemas():
    register_folders()
    return {schema.node_id: schema for schema in (node.GET_SCHEMA() for node in discover_nodes())}


def pages(root, node_id: str) -> dict[str, str]:
    """{"en": text, "zh": text, "fallback": text}; the frontend takes the fallback for other languages."""
    docs = root / "web" / "docs"
    paths = {"en": docs / node_id / "en.md", "zh": docs / node_id / "zh.md", "fallback": docs / f"{node_id}.md"}
    return {name: path.read_text(encoding="utf-8") for name, path in paths.items()}


def test_every_node_has_its_three_pages_and_there_are_no_others(root, schemas):
    docs = root / "web" / "docs"
    found = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*") if path.is_file())
    names = [name for node_id in schemas for name in (f"{node_id}.md", f"{node_id}/en.md", f"{node_id}/zh.md")]
    assert found == sorted(names)


def test_every_page_names_its_node_and_mentions_every_input_and_choice(root, schemas):
    titles = {"zh": HAN}
    for node_id, schema in schemas.items():
        for language, text in pages(root, node_id).items():
            title = text.splitlines()[0]
            assert title.startswith("# Wan GGUF "), (node_id, language)
            assert language == "zh" or title == f"# {schema.display_name}"
            assert titles.get(language, re.compile("")).search(text)
            for entry in schema.inputs:
                assert f"`{entry.id}`" in text, (node_id, language, entry.id)
            options = [option for entry in schema.inputs for option in own_options(entry)]
            assert [option for option in options if f"`{option}`" not in text] == [], (node_id, language)


def own_options(entry) -> list[str]:
    """The choices of an input that are not a list of files."""
    return [] if entry.id.endswith("_name") else getattr(entry, "options", None) or []


def test_chinese_pages_use_the_chinese_node_names(root, schemas):
    import json

    names = json.loads((root / "locales/zh/nodeDefs.json").read_text(encoding="utf-8"))
    for node_id in schemas:
        assert pages(root, node_id)["zh"].splitlines()[0] == f"# {names[node_id]['display_name']}"


def test_the_fallback_is_the_english_page(root, schemas):
    assert [node_id for node_id in schemas if (found := pages(root, node_id))["en"] != found["fallback"]] == []
