"""What cannot be made a video or cannot be written: the error says what, where the latent is, and only what helps."""

import errno
import os

import av.error
import pytest
import torch

from wan_gguf.host import latent_file, stream_decode, video_save
from wan_gguf.host.latent_file import load_latent
from wan_gguf.host.video_failure import cannot_write
from wan_gguf.tests.host.video_jobs import names, save
from wan_gguf.tests.host.video_vaes import make_latent, make_vae
from wan_gguf.tests.own_folders import own_folders


@pytest.fixture(scope="module")
def vae():
    return make_vae("2.1")


@pytest.fixture
def output(tmp_path, monkeypatch):
    """The host's output folder; input and user beside it."""
    return own_folders(tmp_path, monkeypatch, "output", "input", "user")


def test_an_output_folder_that_refuses_the_latent_does_not_lose_it(vae, output, monkeypatch):
    original = latent_file.save_latent

    def refuse(path, *rest):
        if path.parent == output:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(path, *rest)

    monkeypatch.setattr(latent_file, "save_latent", refuse)
    with pytest.raises(OSError, match=r"No space left on device.*; the latent is safe in .*input.*v_00001_.latent"):
        save(vae, make_latent("2.1", 3))
    assert names(output) == []
    kept = load_latent(output.parent / "input" / "v_00001_.latent")
    assert torch.equal(kept["samples"], make_latent("2.1", 3)["samples"])


def test_with_no_room_anywhere_the_latent_stays_in_memory_and_the_error_says_so(vae, output, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(latent_file, "save_latent", refuse)
    with pytest.raises(OSError, match=r"the latent is in ComfyUI's memory only; make room .* queue again"):
        save(vae, make_latent("2.1", 3))


@pytest.mark.parametrize("prefix", ["a" * 250, "d" * 300 + "/v"])
def test_a_name_that_is_too_long_costs_the_name_and_not_the_latent(vae, output, prefix):
    with pytest.raises(OSError) as failure:
        save(vae, make_latent("2.1", 1), filename_prefix=prefix)
    kept = output.parent / "input" / "video_00001_.latent"
    assert failure.value.errno == errno.ENAMETOOLONG
    assert f"the latent is safe in {kept}; choose another filename_prefix, then" in str(failure.value)
    assert torch.equal(load_latent(kept)["samples"], make_latent("2.1", 1)["samples"])


@pytest.mark.parametrize("name", ["a\0b", "a\ud83d"])
def test_a_name_that_no_file_can_have_costs_the_name_and_not_the_latent(output, name):
    samples = make_latent("2.1", 1)["samples"]
    kept = latent_file.keep_latent(output, name, 1, samples, {})
    assert kept.path == output.parent / "input" / "video_00001_.latent" and isinstance(kept.refusal, ValueError)
    assert torch.equal(load_latent(kept.path)["samples"], samples)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.ENOSPC, "full"), "make room or choose another folder, then finish"),
        (OSError("it holds 3 of 9 frames"), "make room or choose another folder, then finish"),
        (PermissionError(errno.EACCES, "no"), "allow writing there or choose another folder, then finish"),
        (OSError(errno.ENAMETOOLONG, "long"), "choose another filename_prefix, then finish"),
        (av.error.InvalidDataError(1094995529, "Invalid data"), "choose another codec or pixel format, then finish"),
        (OSError(errno.EIO, "broken"), "a.latent; finish"),
    ],
)
def test_only_what_helps_is_advised(tmp_path, error, remedy):
    failure = cannot_write(tmp_path, error, tmp_path / "a.latent")
    assert remedy in str(failure) and failure.errno == error.errno
    assert ("make room" in str(failure)) == ("make room" in remedy)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_a_latent_that_is_not_finite_is_refused_before_anything_is_written(vae, output, value):
    samples = make_latent("2.1", 2)["samples"].double()
    samples[0, 3, 1, 2, 1] = value
    with pytest.raises(ValueError, match="samples: the latent has NaN or infinite values"):
        save(vae, {"samples": samples}, filename_prefix="sub/v")
    assert names(output) == []


@pytest.mark.parametrize("tiling", ["off", "256"])
def test_frames_that_are_not_finite_are_an_error_and_the_latent_is_kept(vae, output, monkeypatch, tiling):
    """An overflow to infinity, which the host cuts off to white."""
    original = stream_decode.Stepping.decode

    def overflowing(step, *rest):
        raw = original(step, *rest).clone()
        raw[0, 0, -1, -1, -1] = float("inf")
        return raw

    monkeypatch.setattr(stream_decode.Stepping, "decode", overflowing)
    with pytest.raises(ValueError) as failure:
        save(vae, make_latent("2.1", 2, height=33, width=2), tiling=tiling)
    text = str(failure.value)
    assert "vae: NaN or infinite values came out of it, computed in float32" in text and "--fp32-vae" in text
    assert f"the latent is safe in {output / 'v_00001_.latent'}" in text
    assert names(output) == ["v_00001_.latent"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32])
def test_samples_of_other_dtypes_are_kept_and_finish_the_job(vae, output, dtype):
    latent = {"samples": (3 * make_latent("2.1", 2)["samples"]).to(dtype)}
    first = save(vae, latent)
    loaded = load_latent(first.latent)
    assert torch.equal(loaded["samples"], latent["samples"].float())
    again = save(vae, loaded)
    assert again.latent == first.latent
    assert again.videos[0].path.read_bytes() == first.videos[0].path.read_bytes()


def test_samples_that_are_rounded_are_told(vae, output, caplog):
    save(vae, {"samples": make_latent("2.1", 1)["samples"].double()})
    assert "rounded" not in caplog.text
    save(vae, {"samples": make_latent("2.1", 1)["samples"].double() / 3})
    assert "the latent is torch.float64; it is saved and decoded as float32, rounded" in caplog.text


def test_h265_is_refused_where_it_may_crash_before_anything_is_written(vae, output):
    with pytest.raises(ValueError, match=r"codec: h265 needs 64 x 16 px and more, the frames are 32 x 32 px; choose"):
        save(vae, make_latent("2.1", 1), codec="h265")
    assert names(output) == []


def test_a_record_that_cannot_be_written_is_all_that_is_missing(vae, output, monkeypatch):
    original = video_save.write_whole

    def refuse(path, data):
        if path.suffix == ".json":
            raise OSError(errno.ENOSPC, "No space left on device")
        original(path, data)

    monkeypatch.setattr(video_save, "write_whole", refuse)
    with pytest.raises(OSError) as failure:
        save(vae, make_latent("2.1", 1))
    video = output / "v_00001_.mp4"
    assert f"the video {video} is complete, only its record v_00001_.json cannot be written" in str(failure.value)
    assert "cannot be written in" not in str(failure.value) and failure.value.errno == errno.ENOSPC
    assert names(output) == ["v_00001_.latent", "v_00001_.mp4"]


def test_half_of_a_surrogate_pair_in_the_settings_does_not_cost_the_record(vae, output):
    saved = save(vae, {**make_latent("2.1", 1), "wan_gguf": {"prompt": "\ud83d 红"}})
    text = saved.videos[0].path.with_suffix(".json").read_text(encoding="utf-8")
    assert '"\\ud83d 红"' in text and os.path.exists(saved.latent)
