"""Node ids as names of files: readable, unique on every system, never one with another meaning."""

import pytest

from wan_gguf.cli.batch_names import names_in_folder, names_on_server


def test_the_ids_of_ordinary_workflows_stay_what_they_are():
    nodes = ["9", "save_video", "57:8", "Save-2"]
    assert list(names_in_folder(nodes).values()) == ["9", "save_video", "57_8", "Save-2"]
    assert names_on_server(nodes) == names_in_folder(nodes)


def test_letters_of_every_script_stay_readable_in_a_folder_and_ascii_on_a_server():
    nodes = ["保存一", "保存二", "été"]
    assert names_in_folder(nodes) == {node: node for node in nodes}
    assert list(names_on_server(nodes).values()) == ["___", "____", "_t_"]


@pytest.mark.parametrize("make", [names_in_folder, names_on_server])
@pytest.mark.parametrize(
    "nodes",
    [("57:8", "57_8", "57.8"), ("Save", "save", "SAVE"), ("a" * 99, "a" * 98), ("", "!"), ("e\u0301", "\u00e9")],
    ids=repr,
)
def test_no_two_nodes_share_a_name_even_where_letter_case_does_not_count(make, nodes):
    names = list(make(nodes).values())
    assert len({name.casefold() for name in names}) == len(nodes)
    assert all(names) and max(len(name) for name in names) <= 62


@pytest.mark.parametrize("node", ["sheet", "Sheet", "settings", "inputs", "con", "NUL", "Com1"])
def test_names_with_another_meaning_are_not_given_away(node):
    assert names_in_folder([node]) == {node: f"{node}_"}


def test_long_names_of_any_script_fit_into_a_file_system():
    (name,) = names_in_folder(["\U00020000" * 99]).values()
    assert len(name.encode()) <= 180 and set(name) == {"\U00020000"}


def test_half_a_surrogate_is_no_letter():
    assert names_in_folder(["a\ud83d"]) == {"a\ud83d": "a_"}
