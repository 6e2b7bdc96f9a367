"""Which files of ComfyUI's folders a workflow names, where they lie, and what they are called beside a record."""

import pytest

from wan_gguf.cli.input_files import (
    MAX_NAME_BYTES,
    Place,
    described,
    is_reserved,
    kept_path,
    marked_inputs,
    named_files,
    place_of,
)
from wan_gguf.cli.workflow import load_workflow


def reading(class_type: str, **inputs: object) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def test_the_marks_of_both_generations_of_nodes_are_found():
    older = {"input": {"required": {"image": [["a.png"], {"image_upload": True}], "channel": [["red"]]}}}
    newer = {
        "input": {
            "required": {"file": ["COMBO", {"options": [], "video_upload": True}], "n": ["INT", {"min": 0}]},
            "optional": {"sound": ["COMBO", {"audio_upload": True}], "model": ["COMBO", {"file_upload": False}]},
        }
    }
    assert (marked_inputs(older), marked_inputs(newer)) == ({"image"}, {"file", "sound"})


@pytest.mark.parametrize(
    "info", [None, {}, [], {"input": None}, {"input": {"required": {"a": "x", "b": [], "c": [1]}}}]
)
def test_a_description_of_another_form_marks_nothing(info):
    assert marked_inputs(info) == set()


def test_files_are_named_once_in_the_workflows_order():
    workflow = {
        "b": reading("LoadImage", image="起始 图.png", upload="image"),
        "a": reading("OfAnotherPack", picture="b.png", other="c.png"),
        "again": reading("LoadImage", image="起始 图.png"),
        "linked": reading("LoadImage", image=["b", 0]),
        "none": reading("WanGGUFPromptList", list_name="none", text="a.png"),
        "blank": reading("LoadVideo", file=" "),
        "latent": reading("WanGGUFLoadLatent", latent_name="x.latent [output]"),
        "number": reading("LoadImage", image=5),
    }
    known = ["起始 图.png", "x.latent [output]"]
    assert named_files(workflow) == known
    assert named_files(workflow, {"OfAnotherPack": {"picture"}}) == [known[0], "b.png", known[1]]
    assert named_files(load_workflow()) == []


@pytest.mark.parametrize(
    ("name", "place", "parts"),
    [
        ("a.png", Place("input", "a.png"), ("a.png",)),
        ("子 folder/a b.png [input]", Place("input", "子 folder/a b.png"), ("子 folder", "a b.png")),
        ("a.png [output]", Place("output", "a.png"), ("a.png",)),
        ("sub/a.png [temp]", Place("temp", "sub/a.png"), ("sub", "a.png")),
        ("a.png [other]", Place("input", "a.png [other]"), ("a.png [other]",)),
        ("sub\\a.png", Place("input", "sub\\a.png"), ("sub", "a.png")),
        ("a\u3000b.png", Place("input", "a\u3000b.png"), ("a\u3000b.png",)),
    ],
)
def test_a_name_is_read_as_the_host_reads_it(name, place, parts):
    assert place_of(name) == place and place_of(name).parts == parts


@pytest.mark.parametrize("name", ["a.png", "sub/a.png [input]", "a.png [output]", "b/c.png [temp]", "xy[input]"])
def test_the_host_finds_the_same_place(name):
    """The host's own reading of such names, where it is on the import path."""
    folder_paths = pytest.importorskip("folder_paths")
    bare, folder = folder_paths.annotated_filepath(name)
    place = place_of(name)
    kinds = {None: "input", **{folder_paths.get_directory_by_type(kind): kind for kind in ("output", "input", "temp")}}
    assert (place.kind, place.path) == (kinds[folder], bare)


@pytest.mark.parametrize(
    "name",
    [
        "../a.png",
        "a/../../b",
        "/etc/a.png",
        "C:\\a.png",
        "C:a.png",
        "a\\..\\b",
        "\\\\host\\a",
        "a\0b",
        "a\nb",
        "\ud800",
        "",
        ".",
        " [input]",
        "[temp]",
        "../a.png [output]",
    ],
)
def test_a_name_that_leads_out_of_the_folder_has_no_place(name):
    assert place_of(name) is None


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("a.png", "inputs/3-a.png"),
        ("子/起始 图.PNG", "inputs/3-起始 图.PNG"),
        ("CON.png", "inputs/3-CON.png"),
        ("aux", "inputs/3-aux"),
        ('a<b>:"c|d?e*.png', "inputs/3-a-b---c-d-e-.png"),
        ("a\u3000b\u200b.png", "inputs/3-a-b-.png"),
        (" .png", "inputs/3-file.png"),
        ("x. .png", "inputs/3-x.png"),
        ("a.b\u3000c", "inputs/3-a.bc"),
    ],
)
def test_the_name_beside_the_record_is_one_that_every_system_takes(path, kept):
    assert kept_path(3, Place("input", path)) == kept


def test_a_long_name_is_cut_at_a_whole_character_and_keeps_its_ending():
    path = kept_path(1, Place("input", "长" * 200 + ".jpeg"))
    assert path == "inputs/1-" + "长" * (MAX_NAME_BYTES // 3) + ".jpeg"


def test_names_that_windows_keeps_for_devices():
    for path in ("CON", "con.png", "sub/NUL .txt", "com1.tar.gz", "LPT²", "aux/a.png", "CONIN$"):
        assert is_reserved(Place("input", path)), path
    for path in ("console.png", "a.con", "com.png", "null", "sub/co n.png"):
        assert not is_reserved(Place("input", path)), path


def test_what_a_message_calls_a_file():
    assert described("a.PNG [output]") == "start image 'a.PNG [output]'"
    assert described("a.mp4") == "input file 'a.mp4'"
    assert described("../a\x1b.png") == "input file '../a\\x1b.png'"
