"""What Save Video and Load Latent check, hand on and show."""

import json
from types import SimpleNamespace

import av
import pytest
import torch

import nodes as host_nodes
from wan_gguf.host import video_memory
from wan_gguf.nodes.load_latent import WanGGUFLoadLatent
from wan_gguf.nodes.save_video import WanGGUFSaveVideo
from wan_gguf.tests.own_folders import own_folders

pytestmark = pytest.mark.usefixtures("host_folders", "as_the_host_runs_nodes")

PROMPT = {
    "1": {"class_type": "WanGGUFSampler", "inputs": {}},
    "2": {"class_type": "VAELoader", "inputs": {"vae_name": "vae.safetensors"}},
    "3": {"class_type": "WanGGUFSaveVideo", "inputs": {"samples": ["1", 0], "vae": ["2", 0]}},
}


@pytest.fixture
def output(tmp_path, monkeypatch):
    """The host's output folder; the input folder beside it."""
    return own_folders(tmp_path, monkeypatch, "output", "input")


@pytest.fixture
def vae(host_folders):
    return host_nodes.VAELoader().load_vae("vae.safetensors")[0]


@pytest.fixture
def latent():
    samples = torch.randn(1, 16, 2, 2, 4, generator=torch.Generator().manual_seed(0))
    return {"samples": samples, "wan_gguf": {"seed": 3}}


def in_graph(monkeypatch, prompt=PROMPT, node="3", **extra):
    """As the host executes the node: with the queued graph as hidden inputs."""
    hidden = SimpleNamespace(prompt=prompt, unique_id=node, extra_pnginfo={"workflow": {"nodes": [1]}, **extra})
    monkeypatch.setattr(WanGGUFSaveVideo, "hidden", hidden, raising=False)


def test_it_shows_and_hands_on_the_video_as_the_hosts_save_video_does(output, vae, latent, monkeypatch):
    in_graph(monkeypatch)
    made = WanGGUFSaveVideo.execute(latent, vae, filename_prefix="a/v")
    (video,), images = made.args
    assert images is None
    assert video.get_dimensions() == (32, 16) and video.get_frame_count() == 5 and video.get_frame_rate() == 16
    assert made.ui["images"] == [{"filename": "v_00001_.mp4", "subfolder": "a", "type": "output"}]
    assert made.ui["animated"] == (True,)
    (record,), (text,) = made.ui["wan_gguf"], made.ui["text"]
    assert record["frames_sha256"] in text and "v_00001_.mp4: 5 frames, 32 x 16 px, 16 fps, h264 yuv420p" in text
    assert "decoded as whole frames" in text and "latent v_00001_.latent" in text
    assert json.loads(json.dumps(made.ui))["wan_gguf"][0] == record  # what /history gives
    with av.open(str(output / "a" / "v_00001_.mp4")) as container:
        tags = {name: json.loads(container.metadata[name]) for name in ("prompt", "workflow", "wan_gguf")}
    assert tags["prompt"] == PROMPT and tags["workflow"] == {"nodes": [1]}
    assert (tags["wan_gguf"]["sampling"], tags["wan_gguf"]["vae_name"]) == ({"seed": 3}, "vae.safetensors")


def test_tiles_that_memory_chose_are_taken_again_from_a_record(output, vae, monkeypatch):
    """The file is the same to the byte; a setting of the node's own is stronger."""
    latent = {"samples": torch.randn(1, 16, 1, 2, 40, generator=torch.Generator().manual_seed(0))}
    in_graph(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(video_memory, "_free_bytes", lambda *_: 0)
        (chosen,) = WanGGUFSaveVideo.execute(latent, vae, filename_prefix="a/v").ui["wan_gguf"]
    (whole,) = WanGGUFSaveVideo.execute(latent, vae, filename_prefix="b/v").ui["wan_gguf"]
    in_graph(monkeypatch, wan_gguf_again={"tiling": {"3": "256"}})
    (again,) = WanGGUFSaveVideo.execute(latent, vae, filename_prefix="c/v").ui["wan_gguf"]
    (off,) = WanGGUFSaveVideo.execute(latent, vae, filename_prefix="d/v", tiling="off").ui["wan_gguf"]
    assert chosen["video"]["tiling"] == again["video"]["tiling"] == {"tile_px": 256, "overlap_px": 64}
    assert chosen["frames_sha256"] == again["frames_sha256"] != whole["frames_sha256"] == off["frames_sha256"]
    first, second = ((output / name / "v_00001_.mp4").read_bytes() for name in "ac")
    assert first == second
    in_graph(monkeypatch, wan_gguf_again={"tiling": {"3": "300"}})
    with pytest.raises(ValueError, match="tiling: '300' is unknown"):
        WanGGUFSaveVideo.execute(latent, vae)


def test_images_come_when_asked(output, vae, latent):
    images = WanGGUFSaveVideo.execute(latent, vae, images=True).args[1]
    assert torch.equal(images, vae.decode(latent["samples"])[0])


def test_images_that_are_connected_but_off_are_refused_before_the_decode(output, vae, latent, monkeypatch):
    in_graph(monkeypatch, {**PROMPT, "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 1]}}})
    with pytest.raises(ValueError, match="images: is off, but something is connected to the images output"):
        WanGGUFSaveVideo.execute(latent, vae)
    assert list(output.iterdir()) == []


def test_a_kept_latent_comes_back_and_finishes_the_job(output, vae, latent, monkeypatch):
    in_graph(monkeypatch)
    WanGGUFSaveVideo.execute(latent, vae)
    name = "wan_gguf/video_00001_.latent [output]"
    assert WanGGUFLoadLatent.define_schema().inputs[0].options == [name]
    assert WanGGUFLoadLatent.validate_inputs(latent_name=name) is True
    (loaded,) = WanGGUFLoadLatent.execute(name).args
    assert torch.equal(loaded["samples"], latent["samples"]) and loaded["wan_gguf"] == {"seed": 3}
    in_graph(monkeypatch, {**PROMPT, "1": {"class_type": "WanGGUFLoadLatent", "inputs": {"latent_name": name}}})
    WanGGUFSaveVideo.execute(loaded, vae)
    first, second = (output / "wan_gguf" / f"video_0000{number}_.mp4" for number in (1, 2))
    assert first.read_bytes() == second.read_bytes()
    assert not (output / "wan_gguf" / "video_00002_.latent").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"codec": "ffv1", "crf": 20}, "crf: ffv1 loses nothing"),
        ({"codec": "h264", "crf": 63}, "crf: must be 0 to 51 for h264"),
        ({"codec": "vp9", "pixel_format": "rgb24"}, "pixel_format: vp9 cannot be written as 'rgb24'"),
        ({"filename_prefix": "../v"}, "filename_prefix: '../v' is no name inside the output folder"),
        ({"fps": -1.0}, "fps: must be"),
        ({"tiling": "100"}, "tiling: '100' is unknown; allowed: auto, off, 1024"),
    ],
)
def test_wrong_values_are_refused_when_the_job_is_queued(output, values, message):
    assert WanGGUFSaveVideo.validate_inputs(**values).startswith(message)


NESTED = {"filename_prefix": "%year%/./子 a//%width%x%height%"}
NO_NAMES = {
    "too long": ("红" * 67, "must have 200 bytes in UTF-8 or fewer, got 201"),
    "a folder too long": ("d" * 300 + "/v", "must have 200 bytes"),
    "of no file": ("a\0b", r"without '\x00'"),
    "steering a terminal": ("a\x1b[31m", r"without '\x1b'"),
    "half of a character": ("a\ud83d", "must be valid Unicode"),
    "not on Windows": ("a/b:c/v", "without ':'"),
    "the interface's date": ("%date:yyyy-MM-dd%/v", "; write %year%-%month%-%day% in place of %date:...%"),
}


@pytest.mark.parametrize("what", NO_NAMES)
def test_names_that_no_file_can_have_are_refused_when_queued_and_before_anything_else(output, what):
    """A prefix that is linked is known at execution only; nothing else of the node has been looked at by then."""
    prefix, reason = NO_NAMES[what]
    refusal = WanGGUFSaveVideo.validate_inputs(filename_prefix=prefix)
    assert refusal.startswith("filename_prefix: each folder and the name must ") and reason in refusal
    with pytest.raises(ValueError) as refused:
        WanGGUFSaveVideo.execute(None, None, filename_prefix=prefix)
    assert str(refused.value) == refusal


@pytest.mark.parametrize("values", [{}, {"codec": "vp9", "crf": 63}, {"crf": 60}, {"pixel_format": "rgb24"}, NESTED])
def test_right_values_and_linked_ones_pass(output, values):
    """A linked codec is unknown when the job is queued; crf and pixel format are then checked at execution."""
    assert WanGGUFSaveVideo.validate_inputs(**values) is True


def test_a_name_that_is_no_latent_is_refused_when_the_job_is_queued(output):
    (output / "a.latent").write_bytes(b"PK\x03\x04" + bytes(100))
    assert "is a pickle" in WanGGUFLoadLatent.validate_inputs(latent_name="a.latent [output]")
    assert "there is no file" in WanGGUFLoadLatent.validate_inputs(latent_name="b.latent [output]")
    assert "is not a latent of the list" in WanGGUFLoadLatent.validate_inputs(latent_name="../../a")
