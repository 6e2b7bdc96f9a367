"""`python3 cli decode`: what a latent remembers, which VAE it gets, and clear errors before a server is started."""

import json
import os
import shutil

import pytest
import safetensors.torch
import torch

from wan_gguf.cli import decode, decode_job
from wan_gguf.cli.command_decode import parser
from wan_gguf.cli.errors import UsageError
from wan_gguf.cli.paths import MODEL_FILES

REFERENCE_VAE = "wan_reference_vae.safetensors"
VIDEO = {"codec": "vp9", "crf": 40, "pixel_format": "yuv444p", "fps": 12.5, "tiling": "256"}


@pytest.fixture
def latent(tmp_path):
    """latent(own, channels) -> a latent file with that metadata of ours."""

    def make(own=None, channels=16, name="视频 00001_.latent"):
        tensors = {"latent_tensor": torch.zeros(1, channels, 2, 2, 2), "latent_format_version_0": torch.tensor([])}
        safetensors.torch.save_file(tensors, tmp_path / name, None if own is None else {"wan_gguf": json.dumps(own)})
        return tmp_path / name

    return make


def test_the_settings_of_the_job_are_found(latent):
    job = decode_job.read_job(latent({"video": VIDEO, "vae_name": REFERENCE_VAE, "sampling": {"seed": 1}}))
    assert (job.channels, job.video, job.vae_name) == (16, VIDEO, REFERENCE_VAE)


@pytest.mark.parametrize("own", [None, [], 7, {"video": [1], "vae_name": 3}, {"video": {"codec": 7, "other": 1}}])
def test_metadata_of_another_shape_is_as_good_as_none(latent, own):
    job = decode_job.read_job(latent(own))
    assert (job.video, job.vae_name) == ({}, None)


def test_the_reference_vae_is_found_by_the_name_in_the_latent(latent, tmp_path):
    job = decode_job.read_job(latent({"vae_name": REFERENCE_VAE}))
    assert decode_job.find_vae(job, tmp_path / "host").path == MODEL_FILES / REFERENCE_VAE


def test_the_hosts_own_models_are_looked_through(latent, tmp_path):
    own = tmp_path / "host" / "models" / "vae" / "sub" / "mine.safetensors"
    own.parent.mkdir(parents=True)
    shutil.copy(MODEL_FILES / REFERENCE_VAE, own)
    vae = decode_job.find_vae(decode_job.read_job(latent({"vae_name": "sub/mine.safetensors"})), tmp_path / "host")
    assert (vae.path, vae.name) == (own, os.path.join("sub", "mine.safetensors"))


@pytest.mark.parametrize("name", ["../mine.safetensors", "/tmp/mine.safetensors", "mine.pt", "", "C:\\a.safetensors"])
def test_a_name_that_leads_elsewhere_is_not_followed(latent, tmp_path, name):
    (tmp_path / "host" / "models" / "vae").mkdir(parents=True)
    (tmp_path / "host" / "models" / "mine.safetensors").touch()
    with pytest.raises(UsageError, match=r"made with the VAE .*models.vae, where alone it is looked for; name it"):
        decode_job.find_vae(decode_job.read_job(latent({"vae_name": name})), tmp_path / "host")


@pytest.mark.parametrize(
    ("channels", "file"), [(16, "wan_2.1_vae.safetensors"), (48, "wan2.2_vae.safetensors"), (5, "the VAE of its model")]
)
def test_a_latent_that_does_not_name_its_vae(latent, tmp_path, channels, file):
    with pytest.raises(UsageError) as refused:
        decode_job.find_vae(decode_job.read_job(latent(None, channels)), tmp_path)
    assert f"it has {channels} channels, so name {file} with --vae FILE" in str(refused.value)


def run(*arguments):
    return decode.run(parser().parse_args([str(argument) for argument in arguments]), MODEL_FILES)


def test_a_vae_of_other_channels_is_refused_before_a_server_is_started(latent):
    with pytest.raises(UsageError, match=r"has 48 channels, wan_reference_vae.safetensors decodes 16; name wan2.2_vae"):
        run(latent(None, 48), "--vae", MODEL_FILES / REFERENCE_VAE)


def test_a_vae_that_is_none(latent, tmp_path):
    with pytest.raises(UsageError, match=r"--vae is .*\.latent, which is no \.safetensors file"):
        run(latent(), "--vae", latent())
    shutil.copy(latent(), tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match=r"--vae is .*a\.safetensors, which is no Wan VAE"):
        run(latent(), "--vae", tmp_path / "a.safetensors")


def test_files_that_are_no_latents(tmp_path):
    with pytest.raises(UsageError, match=r"gone.latent is no file; name a \.latent file"):
        run(tmp_path / "gone.latent")
    (tmp_path / "a.latent").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(UsageError, match=r"a.latent is no latent: .* is a pickle"):
        run(tmp_path / "a.latent")
    with pytest.raises(UsageError, match="holds no video latent"):
        run(MODEL_FILES / REFERENCE_VAE)


def test_an_output_folder_that_cannot_be_made_is_refused_before_a_server_is_started(latent, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file/out cannot be written to \(Not a directory\); name another folder"):
        run(latent({"vae_name": REFERENCE_VAE}), "--out", tmp_path / "file" / "out")


def test_the_workflow_finishes_the_latent_with_the_settings(latent):
    settings = {**VIDEO, "codec": "h264"}
    job, vae = decode_job.read_job(latent()), decode_job.Vae(MODEL_FILES, REFERENCE_VAE)
    workflow = decode.make_workflow(job, vae, settings)
    assert settings.items() <= workflow["save_video"]["inputs"].items()
    assert workflow["latent"]["inputs"] == {"latent_name": "视频 00001_.latent [input]"}
    assert workflow["vae"]["inputs"] == {"vae_name": REFERENCE_VAE}


class ServerThatMustNotStart:
    """In place of the server: the fault is known before it."""

    def __init__(self, *_, **__):
        raise AssertionError("the server was started")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--crf", "64"], "--crf is 64; vp9 takes 0 to 63"),
        (["--codec", "ffv1", "--crf", "18"], "--crf is 18; ffv1 loses nothing"),
        (["--pixel-format", "yuv444p10le"], "--pixel-format is yuv444p10le; allowed with vp9: auto, yuv420p, yuv444p"),
        (["--fps", "nan"], "--fps is nan; it can be 0.01 to 240"),
    ],
)
def test_values_that_do_not_go_together_are_refused_before_a_server_is_started(latent, monkeypatch, options, message):
    monkeypatch.setattr(decode, "HostServer", ServerThatMustNotStart)
    with pytest.raises(UsageError) as refused:
        run(latent({"video": VIDEO, "vae_name": REFERENCE_VAE}), *options)
    assert str(refused.value).startswith(message)


def test_a_vae_in_a_folder_keeps_the_name_that_is_written_into_the_video(latent, tmp_path):
    file = tmp_path / "models" / "sub" / "a.safetensors"
    file.parent.mkdir(parents=True)
    shutil.copy(MODEL_FILES / REFERENCE_VAE, file)
    for name, folder in (("sub/a.safetensors", "models"), ("sub\\a.safetensors", "models"), (None, "models/sub")):
        job = decode_job.read_job(latent({"vae_name": name}))
        vae = decode_job.chosen_vae(file, job, tmp_path)
        assert vae.folder == tmp_path / folder and vae.path == file
    assert decode_job.chosen_vae(file, decode_job.read_job(latent({"vae_name": "b/a.safetensors"})), tmp_path) == vae
