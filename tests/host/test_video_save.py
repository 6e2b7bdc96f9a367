"""A latent becomes a video file beside the kept latent; whatever goes wrong, the latent is there, and no half video."""

import errno
import hashlib
import json
import os

import av
import comfy.model_management
import comfy.utils
import pytest
import torch

from wan_gguf.host import video_memory, video_save
from wan_gguf.host.latent_file import load_latent
from wan_gguf.host.video_memory import AUTO, TILE_SIZES_PX, choices, is_out_of_memory, piece_bytes
from wan_gguf.tests.host.video_jobs import TAGS, VAE_NAME, names, save
from wan_gguf.tests.host.video_vaes import make_latent, make_vae
from wan_gguf.tests.own_folders import own_folders


@pytest.fixture(scope="module")
def vae():
    return make_vae("2.1")


@pytest.fixture
def output(tmp_path, monkeypatch):
    """The host's output folder; input and user beside it."""
    return own_folders(tmp_path, monkeypatch, "output", "input", "user")


def test_a_video_its_record_and_its_latent(vae, output):
    latent = {**make_latent("2.1", 3), "wan_gguf": {"seed": 7}}
    saved = save(vae, latent, filename_prefix="子 folder/片")
    folder = output / "子 folder"
    assert names(folder) == ["片_00001_.json", "片_00001_.latent", "片_00001_.mp4"]
    assert saved.subfolder == "子 folder" and saved.images is None
    (video,) = saved.videos
    assert video.path == folder / "片_00001_.mp4"
    record = json.loads((folder / "片_00001_.json").read_text(encoding="utf-8"))
    assert record == {"file": "片_00001_.mp4", **video.record}
    frames = vae.decode(latent["samples"])[0]
    pixels = (frames * 255).clamp(0, 255).byte().numpy().tobytes()
    assert record["frames_sha256"] == hashlib.sha256(pixels).hexdigest()
    assert record["video_sha256"] == hashlib.sha256(video.path.read_bytes()).hexdigest()
    assert (record["frames"], record["width"], record["height"]) == (9, 32, 32)
    taken = {"codec": "h264", "crf": 19, "pixel_format": "yuv420p", "fps": 16.0, "tiling": "off"}
    assert (record["video"], record["sampling"], record["vae_name"]) == (taken, {"seed": 7}, VAE_NAME)
    with av.open(str(video.path)) as container:
        found = {name: json.loads(container.metadata[name]) for name in (*TAGS, "wan_gguf")}
    assert found == {**TAGS, "wan_gguf": {"sampling": {"seed": 7}, "video": taken, "vae_name": VAE_NAME}}


def test_the_same_job_gives_the_same_bytes_and_the_next_number(vae, output):
    paths = [save(vae, make_latent("2.1", 3)).videos[0].path for _ in range(2)]
    assert [path.name for path in paths] == ["v_00001_.mp4", "v_00002_.mp4"]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_job_finished_from_its_latent_gives_the_bytes_of_the_whole_one(vae, output):
    first = save(vae, {**make_latent("2.1", 3), "wan_gguf": {"seed": 7}})
    latent = load_latent(first.latent)
    again = save(vae, latent, tags={"prompt": {"another": {}}, "workflow": {}})
    assert again.videos[0].path.read_bytes() == first.videos[0].path.read_bytes()
    assert again.latent == first.latent
    assert [name for name in names(output) if name.endswith(".latent")] == ["v_00001_.latent"]


def test_a_latent_that_was_changed_after_loading_is_a_new_job(vae, output):
    latent = load_latent(save(vae, make_latent("2.1", 1)).latent)
    latent["samples"] = latent["samples"] * 0.5
    saved = save(vae, latent, tags={"prompt": {"mine": {}}})
    assert saved.latent.name == "v_00002_.latent"
    with av.open(str(saved.videos[0].path)) as container:
        assert json.loads(container.metadata["prompt"]) == {"mine": {}}


def test_a_batch_is_one_file_per_video(vae, output):
    latent = make_latent("2.1", 2, batch=2)
    saved = save(vae, latent, images=True, codec="ffv1")
    assert [video.path.name for video in saved.videos] == ["v_00001_.mkv", "v_00002_.mkv"]
    assert saved.images.shape == (10, 32, 32, 3)
    for index, video in enumerate(saved.videos):
        alone = vae.decode(latent["samples"][index : index + 1])[0]
        assert torch.equal(saved.images[5 * index : 5 * index + 5], alone)
        with av.open(str(video.path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert (torch.stack([torch.from_numpy(frame) for frame in frames]) == (alone * 255).byte()).all()
    assert len([name for name in names(output) if name.endswith(".latent")]) == 1


def test_the_latent_goes_only_when_it_is_not_wanted_and_the_video_is_there(vae, output):
    saved = save(vae, make_latent("2.1", 2), keep_latent=False)
    assert saved.latent is None and saved.videos[0].record["latent"] is None
    assert names(output) == ["v_00001_.json", "v_00001_.mp4"]


def test_a_loaded_latent_is_never_removed(vae, output):
    first = save(vae, make_latent("2.1", 1))
    save(vae, load_latent(first.latent), keep_latent=False)
    assert first.latent.exists()


def test_without_metadata_no_settings_are_written(vae, output, monkeypatch):
    monkeypatch.setattr(video_save.args, "disable_metadata", True)
    saved = save(vae, make_latent("2.1", 1))
    assert names(output) == ["v_00001_.latent", "v_00001_.mp4"]
    with av.open(str(saved.videos[0].path)) as container:
        assert not {"prompt", "workflow", "wan_gguf"} & set(container.metadata)
    assert b"prompt" not in saved.latent.read_bytes()


class FailingWriter(video_save.VideoWriter):
    """Fails at its second piece."""

    error: BaseException = OSError(errno.ENOSPC, "No space left on device")

    def write(self, frames):
        if self.frames:
            raise self.error
        super().write(frames)


def test_a_disk_that_fills_up_leaves_the_latent_and_says_so(vae, output, monkeypatch):
    monkeypatch.setattr(video_save, "VideoWriter", FailingWriter)
    with pytest.raises(OSError) as failure:
        save(vae, make_latent("2.1", 3), keep_latent=False)
    assert names(output) == ["v_00001_.latent"]
    text = str(failure.value)
    assert "No space left on device" in text and f"python3 cli decode '{output / 'v_00001_.latent'}'" in text
    assert failure.value.errno == errno.ENOSPC
    assert torch.equal(load_latent(output / "v_00001_.latent")["samples"], make_latent("2.1", 3)["samples"])


def test_an_interrupt_leaves_the_latent_and_the_next_run_is_whole(vae, output, monkeypatch):
    class Interrupted(FailingWriter):
        error = comfy.model_management.InterruptProcessingException()

    with monkeypatch.context() as patch:
        patch.setattr(video_save, "VideoWriter", Interrupted)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            save(vae, make_latent("2.1", 3))
    assert names(output) == ["v_00001_.latent"]
    assert save(vae, load_latent(output / "v_00001_.latent")).videos[0].record["frames"] == 9


def test_nothing_is_overwritten_by_a_program_that_took_the_number_meanwhile(vae, output, monkeypatch):
    original = video_save.place

    def late(partial, path):
        if path.name == "v_00001_.mp4":
            path.write_bytes(b"another program's")
        original(partial, path)

    monkeypatch.setattr(video_save, "place", late)
    saved = save(vae, make_latent("2.1", 1))
    assert saved.videos[0].path.name == "v_00002_.mp4"
    assert (output / "v_00001_.mp4").read_bytes() == b"another program's"


def test_what_a_killed_program_left_is_removed_after_a_day(vae, output):
    for name, age_s in (("old", 90_000), ("young", 100)):
        path = output / f".wan-gguf-{name}.part"
        path.touch()
        os.utime(path, (path.stat().st_mtime - age_s,) * 2)
    save(vae, make_latent("2.1", 1))
    assert [name for name in names(output) if name.endswith(".part")] == [".wan-gguf-young.part"]


def test_progress_counts_the_frames_of_all_videos(vae, output, monkeypatch):
    seen = []
    monkeypatch.setattr(
        comfy.utils.ProgressBar, "update_absolute", lambda bar, value, *_: seen.append((value, bar.total))
    )
    save(vae, make_latent("2.1", 4, batch=2))
    assert seen == [(1, 26), (9, 26), (13, 26), (14, 26), (22, 26), (26, 26)]


@pytest.mark.parametrize("prefix", ["../v", "/etc/v", "a/../../v", "", ".", "a/.."])
def test_a_prefix_that_leaves_the_output_folder_is_refused_before_the_decode(vae, output, prefix):
    with pytest.raises(ValueError, match=r"filename_prefix: .* is no name inside the output folder"):
        save(vae, make_latent("2.1", 1), filename_prefix=prefix)
    assert names(output) == []


def test_a_file_in_place_of_the_folder_is_refused(vae, output):
    (output / "taken").touch()
    with pytest.raises(ValueError, match=r"filename_prefix: .*taken cannot be written to"):
        save(vae, make_latent("2.1", 1), filename_prefix="taken/v")


def small_free_memory(monkeypatch, vae, latent, share):
    """Let the VAE's device have that share of what a whole frame needs."""
    whole = piece_bytes(vae, *latent["samples"].shape[2:])
    monkeypatch.setattr(video_memory, "_free_bytes", lambda *_: int(whole * share))


def test_a_frame_that_does_not_fit_is_tiled_before_the_memory_runs_out(vae, output, monkeypatch):
    latent = make_latent("2.1", 1, height=33, width=2)
    small_free_memory(monkeypatch, vae, latent, 0.9)
    (video,) = save(vae, latent).videos
    assert video.record["video"]["tiling"] == {"tile_px": 256, "overlap_px": 64}
    assert "tiles of 256 px, 64 px overlap, not bit-equal to whole frames" in video.record["decoded_as"]
    assert "GiB are free" in video.record["decoded_as"]


def test_tiles_are_as_large_as_the_memory_allows(vae, monkeypatch):
    whole, sizes = piece_bytes(vae, 21, 180, 320), []
    for share in (1.0, 0.9, 0.7, 0.5, 0.3, 0.0):
        monkeypatch.setattr(video_memory, "_free_bytes", lambda *_, free=int(share * whole): free)
        first, *rest = choices(vae, AUTO, 21, 180, 320)
        sizes.append(2560 if first.tiling is None else first.tiling.tile * 8)
        assert all(len(one.tiling.places(180, 320)) > 1 for one in rest)
    assert sizes[0] == 2560 and sizes[1] < 2560 and sizes[-1] == TILE_SIZES_PX[-1]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) >= 3


def test_a_short_video_needs_the_memory_of_a_long_one_and_a_single_frame_less(vae):
    """3793 float32 values per pixel were measured for three latent frames, of which the host counts 2200."""
    needs = [piece_bytes(vae, frames, 60, 104) for frames in (1, 2, 3, 5, 21)]
    assert needs[0] < needs[1] == needs[2] == needs[3] == needs[4]
    assert needs[1] > 3793 * 4 * 480 * 832


def test_out_of_memory_goes_on_with_tiles_and_records_it(vae, output, monkeypatch, caplog):
    latent, original, tried = make_latent("2.1", 2, height=33, width=2), video_save.stream_frames, []

    def stream(vae, samples, tiling):
        tried.append(tiling)
        for number, piece in enumerate(original(vae, samples, tiling)):
            if tiling is None and number == 1:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
            yield piece

    monkeypatch.setattr(video_save, "stream_frames", stream)
    (video,) = save(vae, latent, tiling="auto").videos
    assert [None if tiling is None else tiling.tile for tiling in tried] == [None, 32]
    assert video.record["video"]["tiling"] == {"tile_px": 256, "overlap_px": 64}
    assert "out of memory" in video.record["decoded_as"] and "out of memory" in caplog.text
    assert video.record["frames"] == 5
    assert names(output) == ["v_00001_.json", "v_00001_.latent", "v_00001_.mp4"]
    fixed = save(vae, latent, tiling="256").videos[0]
    assert fixed.record["frames_sha256"] == video.record["frames_sha256"]


@pytest.mark.parametrize(
    ("tiling", "remedy"), [("off", "set tiling to auto or to a smaller size"), ("auto", "the smallest there are")]
)
def test_out_of_memory_with_nothing_left_to_try_says_what_to_do(vae, output, monkeypatch, tiling, remedy):
    def stream(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")
        yield

    monkeypatch.setattr(video_save, "stream_frames", stream)
    with pytest.raises(MemoryError, match=remedy):
        save(vae, make_latent("2.1", 2, height=33, width=2), tiling=tiling)
    assert names(output) == ["v_00001_.latent"]


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(torch.OutOfMemoryError("x"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit")) and not is_out_of_memory(ValueError("memory"))


def test_tiling_off_takes_whole_frames_whatever_is_free(vae, monkeypatch):
    monkeypatch.setattr(video_memory, "_free_bytes", lambda *_: 0)
    assert [choice.tiling for choice in choices(vae, "off", 21, 90, 160)] == [None]


def test_a_size_as_large_as_the_frame_is_whole_frames(vae):
    assert [choice.record() for choice in choices(vae, "512", 21, 60, 64)] == ["off"]
