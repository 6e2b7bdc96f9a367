"""Results that begin with an image are made again from their records on a running host, the image from beside them.

Needs the reference model's files in reference_model/files; it has no start image of its own, so a frame is changed.
"""

import copy
import hashlib
import io
import json

import pytest

from wan_gguf.cli import batch
from wan_gguf.cli.command_batch import parse
from wan_gguf.cli.errors import CliError
from wan_gguf.cli.input_files import READERS, marked_inputs
from wan_gguf.cli.record_form import read_record
from wan_gguf.cli.record_inputs import SERVER_FOLDERS, changed_inputs
from wan_gguf.cli.terminal import Progress
from wan_gguf.cli.verify_result import check
from wan_gguf.cli.workflow import load_workflow
from wan_gguf.tests.cli.fake_comfy import png
from wan_gguf.tests.cli.test_verify_result import forget

NAME = "子 folder/起始 图.png"


def node(class_type: str, **inputs: object) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def image_to_frame() -> dict:
    """The image encoded, half of its noise steps made by the pack's model, decoded."""
    made = {name: body for name, body in load_workflow().items() if name in ("model", "text_encoder", "vae", "prompt")}
    made["start"] = node("LoadImage", image=NAME)
    made["scaled"] = node(
        "ImageScale", image=["start", 0], upscale_method="nearest-exact", width=64, height=64, crop="disabled"
    )
    made["encoded"] = node("VAEEncode", pixels=["scaled", 0], vae=["vae", 0])
    settings = {"seed": 3, "steps": 2, "cfg": 2.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 0.5}
    links = {"model": ["model", 0], "positive": ["prompt", 0], "negative": ["prompt", 1]}
    made["sampler"] = node("KSampler", latent_image=["encoded", 0], **links, **settings)
    made["decode"] = node("WanGGUFVAEDecode", samples=["sampler", 0], vae=["vae", 0])
    made["save_frames"] = node("SaveImage", images=["decode", 0], filename_prefix="x")
    return made


def result_of(server, host_dir, folder, workflow: dict, kind: str, place: str, image: bytes):
    """(path of a record, the record) of a batch's job; the server's own image is gone again."""
    own = server.base / SERVER_FOLDERS[kind] / place
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_bytes(image)
    job = folder / "job.json"
    job.write_text(json.dumps(workflow), encoding="utf-8")
    out = folder / "结果"
    assert batch.run(parse([str(job), "--server", f"http://127.0.0.1:{server.port}", "--out", str(out)]), host_dir) == 0
    own.unlink()
    path = out / "0001-job" / "settings.json"
    return path, read_record(path)


@pytest.fixture(scope="module")
def made(server, host_dir, tmp_path_factory):
    return result_of(server, host_dir, tmp_path_factory.mktemp("start"), image_to_frame(), "input", NAME, png(0x2060C0))


def check_again(server, path, record):
    forget(server)
    return check(server, path, record, Progress(io.StringIO()))


def test_a_result_with_a_start_image_is_made_again_from_the_kept_one(server, made):
    path, record = made
    kept = path.parent / record["inputs"][NAME]["file"]
    assert kept.read_bytes() == png(0x2060C0) and changed_inputs(path, record) == []
    outcome = check_again(server, path, record)
    assert (outcome.is_equal, outcome.frames) == (True, 1)
    assert not (server.base / "input" / NAME).exists()


def test_the_frames_depend_on_the_kept_image(server, made, tmp_path):
    """Even where the record's hash is changed with the image, the frames are not those that were recorded."""
    record, image = copy.deepcopy(made[1]), png(0xC06020)
    path = tmp_path / "settings.json"
    (tmp_path / "inputs").mkdir()
    (tmp_path / record["inputs"][NAME]["file"]).write_bytes(image)
    assert len(changed_inputs(path, record)) == 1
    record["inputs"][NAME]["sha256"] = hashlib.sha256(image).hexdigest()
    assert changed_inputs(path, record) == []
    outcome = check_again(server, path, record)
    assert "1 of 1 frames differ, the first is frame 0 (from 0)" in outcome.differences


@pytest.mark.parametrize("kind", SERVER_FOLDERS)
def test_files_of_every_folder_of_the_host_are_kept_and_found(server, host_dir, tmp_path, kind):
    """No model is needed for this: an image that is loaded and saved."""
    workflow = {
        "start": node("LoadImageMask", image=f"{NAME} [{kind}]", channel="red"),
        "frames": node("MaskToImage", mask=["start", 0]),
        "save_frames": node("SaveImage", images=["frames", 0], filename_prefix="x"),
    }
    path, record = result_of(server, host_dir, tmp_path, workflow, kind, NAME, png(0x204060))
    assert list(record["inputs"]) == [f"{NAME} [{kind}]"]
    assert check_again(server, path, record).is_equal


def test_an_input_only_the_server_knows_of_is_refused_before_the_run(server, made):
    path, record = made
    workflow = {**record["workflow"], "3d": node("Load3D", model_file="a.glb")}
    with pytest.raises(CliError, match=r"reads the input file 'a\.glb', which the record does not keep"):
        check_again(server, path, {**record, "workflow": workflow})


def test_what_is_known_without_a_server_is_what_the_server_has(server):
    known = server.get_json("/object_info")
    for class_type, name in READERS.items():
        assert name in known[class_type]["input"]["required"], class_type
    marked = {class_type: marked_inputs(known[class_type]) for class_type in (*READERS, "Load3D")}
    assert marked["LoadImage"] == {"image"} and marked["LoadVideo"] == {"file"} and marked["LoadAudio"] == {"audio"}
    assert marked["Load3D"] == {"model_file"} and marked["WanGGUFPromptList"] == set()
