"""Wan GGUF Prompt List: from text or a file of the input folder to lists, with everything refused that will not do."""

import folder_paths
import pytest

from wan_gguf.nodes.empty_latent import MAX_FRAMES, MAX_SIZE_PX, MIN_SIZE_PX
from wan_gguf.nodes.lists import as_rows
from wan_gguf.nodes.prompt_list import WanGGUFPromptList
from wan_gguf.nodes.sampler import MAX_STEPS, describe_rows
from wan_gguf.text import prompt_columns

DEFAULTS = {
    "negative": "blurry", "cfg": 4.0, "steps": 20, "width": 64, "height": 32, "frames": 17, "name_prefix": "list/",
}  # fmt: skip
CSV = "prompt,negative,seed,cfg,steps,size,frames,name\na red circle,ugly,7,3.5,6,832x480,81,circle\n一个圆,,,,,,,\n"


@pytest.fixture
def input_folder(tmp_path, monkeypatch):
    """The host's input folder, with lists in it and one beside it."""
    folder = tmp_path / "input"
    (folder / "lists").mkdir(parents=True)
    (folder / "lists" / "a.csv").write_text(CSV, encoding="utf-8-sig")
    (folder / "bad.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b", "cfg": 99}\n', encoding="utf-8")
    (folder / "picture.png").write_bytes(b"x")
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    monkeypatch.setattr(folder_paths, "input_directory", str(folder))
    return folder


def run(text="", kind="text", list_name="none", seed_policy="from the row", seed=5, **defaults):
    given = {"text": text, "kind": kind, "list_name": list_name, "seed_policy": seed_policy, "seed": seed}
    return WanGGUFPromptList.execute(**given, **DEFAULTS | defaults)


FULL = (
    ["a red circle", "一个圆"], ["ugly", "blurry"], [7, 5], [3.5, 4.0], [6, 20], [832, 64], [480, 32], [81, 17],
    ["list/circle", "list/0002"],
)  # fmt: skip


def test_rows_become_lists_and_defaults_fill_them(input_folder):
    assert run(CSV, "csv").args == FULL
    assert run(list_name="lists/a.csv").args == FULL


def test_seeds_follow_the_policy():
    assert run("a\nb\nc", seed_policy="increment").args[2] == [5, 6, 7]
    assert run(CSV, "csv", seed_policy="fixed").args[2] == [5, 5]
    with pytest.raises(ValueError, match="line 2, column seed: must be"):
        run("a\nb", seed_policy="increment", seed=2**64 - 1)


def test_the_node_shows_its_rows():
    shown = run(CSV, "csv").ui.as_dict()["text"][0]
    assert shown.splitlines() == ["2 rows", "list/circle: seed 7, a red circle", "list/0002: seed 5, 一个圆"]
    assert run("a\n" * 30).ui.as_dict()["text"][0].splitlines()[-1] == "and 10 more"


def test_the_list_has_the_lists_of_the_input_folder(input_folder):
    options = WanGGUFPromptList.GET_SCHEMA().inputs[2].options
    assert options == ["none", "bad.jsonl", "lists/a.csv"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (("", "text", "none"), "the list has no prompts"),
        (("a,b", "csv", "none"), "line 1: column 'a' is unknown"),
        (("a\n(b:99)", "text", "none"), "line 2, column prompt: prompt weight at character 4 must be from 0 to 10"),
        (('{"prompt": "a", "negative": "(b:nan)"}', "jsonl", "none"), "line 1, column negative: prompt weight"),
        (("a\n()", "text", "none"), "line 2, column prompt: is empty"),
        (("", "text", "bad.jsonl"), "line 2, column cfg: must be a number from 1.0 to 15.0, got 99"),
        (("a", "text", "lists/a.csv"), "the text must be empty while list_name is 'lists/a.csv'"),
        (("", "text", "gone.csv"), "there is no file 'gone.csv' in the input folder"),
        (("", "text", "picture.png"), "'picture.png': a prompt list is one of .txt"),
        (("", "text", "../secret.txt"), "'../secret.txt' is not inside of the input folder"),
        (("", "text", "/etc/passwd"), "'/etc/passwd' is not inside of the input folder"),
    ],
)
def test_what_will_not_do_is_refused_when_the_workflow_is_queued(input_folder, inputs, message):
    found = WanGGUFPromptList.validate_inputs(*inputs)
    assert found.startswith("list_name: " if inputs[0] == "" and inputs[2] != "none" else "text: ")
    assert message in found
    with pytest.raises((ValueError, OSError)) as caught:
        run(*inputs)
    assert message in str(caught.value)


def test_a_link_that_leaves_the_input_folder_is_not_followed(input_folder, tmp_path):
    (input_folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    assert "is not inside of the input folder" in WanGGUFPromptList.validate_inputs("", "text", "link.txt")


def test_right_and_linked_lists_are_accepted(input_folder):
    assert WanGGUFPromptList.validate_inputs(CSV, "csv", "none") is True
    assert WanGGUFPromptList.validate_inputs("", "text", "lists/a.csv") is True
    assert WanGGUFPromptList.validate_inputs(None, "csv", "none") is True


SIZES = [
    ({"width": 100}, "width must be a multiple of 16, got 100; nearest: 96 or 112"),
    ({"height": 16400}, "height must be at most 16384 px, got 16400"),
    ({"frames": 80}, "frames must be 1"),
]


@pytest.mark.parametrize(("changed", "message"), [({"cfg": 0.5}, "cfg must be from"), *SIZES])
def test_defaults_are_checked_like_the_rows(changed, message):
    with pytest.raises(ValueError, match=message):
        run("a", **changed)


@pytest.mark.parametrize("text", ["a", None], ids=["list known", "list linked"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        *SIZES,
        ({"seed": -1}, "seed must be a whole number from 0 to 18446744073709551615, got -1"),
        ({"seed_policy": "random"}, "seed policy must be one of from the row, fixed, increment, got 'random'"),
    ],
)
def test_settings_that_will_not_do_are_refused_when_the_workflow_is_queued(text, changed, message):
    settings = {"seed_policy": "increment", "seed": 2**64 - 1, "width": 64, "height": 32, "frames": 17}
    assert WanGGUFPromptList.validate_inputs(text, "text", "none", **settings) is True
    assert WanGGUFPromptList.validate_inputs(text, "text", "none", **dict.fromkeys(settings)) is True
    assert WanGGUFPromptList.validate_inputs(text, "text", "none", **settings | changed).startswith(message)


def test_seeds_that_count_beyond_the_last_one_are_refused_when_the_workflow_is_queued():
    found = WanGGUFPromptList.validate_inputs("a\nb", "text", "none", "increment", 2**64 - 1)
    assert found == f"line 2, column seed: must be a whole number from 0 to {2**64 - 1}, got {2**64}"
    assert WanGGUFPromptList.validate_inputs("a\nb", "text", "none", "fixed", 2**64 - 1) is True


def test_a_changed_file_is_read_again(input_folder):
    settings = {"text": "", "kind": "text", "seed": 1}
    before = WanGGUFPromptList.fingerprint_inputs(**settings, list_name="lists/a.csv")
    (input_folder / "lists" / "a.csv").write_text("prompt\na\n", encoding="utf-8")
    assert WanGGUFPromptList.fingerprint_inputs(**settings, list_name="lists/a.csv") != before
    assert WanGGUFPromptList.fingerprint_inputs(**settings, list_name="none") is None


def test_the_limits_of_rows_are_those_of_the_nodes():
    assert prompt_columns.MAX_STEPS == MAX_STEPS
    assert (prompt_columns.SIZE_MULTIPLE_PX, prompt_columns.MAX_SIZE_PX) == (MIN_SIZE_PX, MAX_SIZE_PX)
    assert prompt_columns.MAX_FRAMES == MAX_FRAMES


def test_shorter_lists_repeat_their_last_entry():
    assert as_rows({"a": [1, 2, 3], "b": ["x", "y"], "c": [None]}) == [
        {"a": 1, "b": "x", "c": None},
        {"a": 2, "b": "y", "c": None},
        {"a": 3, "b": "y", "c": None},
    ]
    with pytest.raises(ValueError, match="b: got an empty list"):
        as_rows({"a": [1], "b": []})


def test_rows_of_other_settings_are_told_apart():
    record = {"preset": "custom", "steps": 4, "cfg": 1.0, "shift": 5.0, "solver": "euler", "seed": 1}
    assert describe_rows([record]) == "custom: 4 steps, cfg 1, shift 5, euler"
    assert describe_rows([record, record | {"seed": 2}]).splitlines() == [
        "custom: 4 steps, cfg 1, shift 5, euler",
        "row 1: seed 1",
        "row 2: seed 2",
    ]
    assert describe_rows([record, record | {"steps": 9}]).splitlines() == [
        "row 1: seed 1, custom: 4 steps, cfg 1, shift 5, euler",
        "row 2: seed 1, custom: 9 steps, cfg 1, shift 5, euler",
    ]
