"""Finished rows of a list lie on the disk, bit for bit, until their videos do; a list that stops can be finished."""

import errno
import json
import re
from pathlib import Path

import comfy.model_management
import pytest
import torch

from wan_gguf.cli import decode
from wan_gguf.host import latent_file, sampler_turns
from wan_gguf.host.latent_file import ORIGIN, list_latents, load_latent
from wan_gguf.host.sampler import sample_latent, sample_rows
from wan_gguf.host.unfinished_rows import NOTHING_KNOWN, ROW_FILE, VideoPlan
from wan_gguf.host.video_request import Request
from wan_gguf.host.video_save import save_videos
from wan_gguf.nodes.load_latent import WanGGUFLoadLatent
from wan_gguf.nodes.save_video import WanGGUFSaveVideo
from wan_gguf.tests.host.video_vaes import make_vae
from wan_gguf.tests.own_folders import own_folders

# 4 steps at shift 5 and boundary 0.875 are 2 + 2
SETTINGS = {"seed": 3, "steps": 4, "cfg": 1.0, "shift": 5.0, "solver": "unipc", "cfg_mode": "batched"}
VIDEO = {"codec": "ffv1", "crf": -1, "pixel_format": "auto", "fps": 8.0, "tiling": "off"}
PLAN = VideoPlan(
    tags={"workflow": {"nodes": [1]}, "prompt": {"1": {"class_type": "X", "inputs": {"text": "红色"}}}},
    video=VIDEO,
    vae_name="narrow.safetensors",
    names=("圆 circle", None, "c", "d"),
)
FILES = ["row_0001_圆 circle_00001_.latent", "row_0002_00001_.latent"]
Interrupted = comfy.model_management.InterruptProcessingException


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    """The host's output folder; the input folder beside it."""
    return own_folders(tmp_path, monkeypatch, "output", "input")


@pytest.fixture
def folder(output):
    """Where the rows are put."""
    return output / "wan_gguf" / "unfinished_list"


@pytest.fixture
def rows(high, low, conditioning):
    """Four rows through both experts, each with a seed of its own."""
    given = {"model": high, "low_noise_model": low, "positive": conditioning(1), "negative": conditioning(2)}
    latent = {"samples": torch.zeros(1, 16, 2, 4, 4)}
    return [{**given, "latent": latent, **SETTINGS, "seed": seed} for seed in (3, 4, 5, 6)]


@pytest.fixture
def failing(high, conditioning):
    """failing(error) -> four rows for one model, whose third row raises `error`, or gives NaN for None."""

    def make(error: BaseException | None) -> list[dict]:
        def fail(args):
            if error is None:
                return args["denoised"] * float("nan")
            raise error

        broken = high.clone()
        broken.set_model_sampler_post_cfg_function(fail)
        given = {"positive": conditioning(1), "negative": conditioning(2), **SETTINGS, "steps": 1}
        given["latent"] = {"samples": torch.zeros(1, 16, 1, 4, 4)}
        return [{**given, "model": broken if number == 3 else high} for number in (1, 2, 3, 4)]

    return make


@pytest.fixture
def interrupted(rows, monkeypatch):
    """interrupted(step) runs the rows up to an interrupt at that step of the list, counted from 0."""

    def run(step: int) -> None:
        def interrupting(model, total):
            return lambda at, *args: at == step and comfy.model_management.interrupt_current_processing()

        with monkeypatch.context() as patch:
            patch.setattr("latent_preview.prepare_callback", interrupting)
            with pytest.raises(Interrupted):
                sample_rows(rows, plan=PLAN)

    return run


IN_ROW_3 = 12  # steps 0 to 7 are the first expert's, two a row, 8 to 15 the second's


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def written(output: Path) -> list[Path]:
    """All files of the host's folders."""
    return [path for path in output.parent.rglob("*") if path.is_file()]


def stopped(rows: list[dict], plan: VideoPlan = PLAN) -> None:
    """Sample rows whose third one interrupts."""
    with pytest.raises(Interrupted):
        sample_rows(rows, plan=plan)


def refuse(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_an_interrupt_in_the_third_row_leaves_the_first_two_bit_for_bit(rows, interrupted, folder, caplog):
    interrupted(IN_ROW_3)
    assert names(folder) == FILES
    listed = sorted(list_latents())
    assert listed == [f"wan_gguf/unfinished_list/{name} [output]" for name in FILES]
    for name, row in zip(listed, rows, strict=False):
        assert WanGGUFLoadLatent.validate_inputs(name) is True
        (latent,) = WanGGUFLoadLatent.execute(name).args
        alone = sample_latent(**row)
        assert torch.equal(latent["samples"], alone["samples"])
        assert latent["wan_gguf"] == alone["wan_gguf"] and alone["wan_gguf"]["seed"] == row["seed"]
    said = f"sampling stopped in row 3 of 4; finished rows 1, 2: saved in {folder}; the files are {', '.join(FILES)}; "
    assert said + "finish with 'Wan GGUF Load Latent'" in caplog.text


def test_a_row_finished_from_its_file_is_the_video_of_the_whole_job(rows, interrupted, folder, output):
    vae, request = make_vae("2.1"), Request(filename_prefix="v", **VIDEO)
    whole = save_videos(vae, sample_latent(**rows[1]), request, dict(PLAN.tags), PLAN.vae_name).videos[0]
    interrupted(IN_ROW_3)
    latent = load_latent(folder / FILES[1])
    again = save_videos(vae, latent, request, {"prompt": {"another": {}}}, PLAN.vae_name)
    assert again.videos[0].path.read_bytes() == whole.path.read_bytes()
    assert again.latent == folder / FILES[1] and again.latent.exists()


def test_the_command_line_finishes_a_row_with_what_its_file_says(failing, folder, output):
    stopped(failing(Interrupted()))
    job = decode.read_job(folder / FILES[0])
    assert (job.channels, job.video, job.vae_name) == (16, VIDEO, PLAN.vae_name)
    workflow = decode.make_workflow(job, Path(PLAN.vae_name), job.video)
    given = {node: entry["inputs"] for node, entry in workflow.items()}
    copy = output.parent / "input" / given["latent"]["latent_name"].removesuffix(" [input]")
    copy.write_bytes((folder / FILES[0]).read_bytes())  # as the command does
    (latent,) = WanGGUFLoadLatent.execute(**given["latent"]).args
    made = WanGGUFSaveVideo.execute(latent, make_vae("2.1"), **without_links(given["save_video"]))
    (record,) = made.ui["wan_gguf"]
    assert (record["frames"], record["video"]["codec"], record["video"]["fps"]) == (1, "ffv1", 8)


def without_links(inputs: dict) -> dict:
    return {name: value for name, value in inputs.items() if not isinstance(value, list)}


def test_a_row_that_fails_is_named_with_what_is_saved(failing, folder):
    said = f"finished rows 1, 2: saved in {folder}; the files are {', '.join(FILES)}; finish with"
    with pytest.raises(RuntimeError, match=rf"(?s)^row 3 of 4: sampling step 1 of 1.*; {re.escape(said)}"):
        sample_rows(failing(None), plan=PLAN)
    assert names(folder) == FILES


def test_a_failure_between_two_turns_loses_nothing_either(rows, folder, monkeypatch):
    def fail(*_):
        raise RuntimeError("the first expert does not leave")

    monkeypatch.setattr(sampler_turns, "hand_over", fail)
    rows[0]["boundary"] = 0.1  # has no steps for the second expert
    with pytest.raises(RuntimeError, match=r"^row 1 of 4: the first expert does not leave; finished row 1: saved in"):
        sample_rows(rows)
    assert names(folder) == ["row_0001_00001_.latent"]


def test_a_full_disk_does_not_hide_what_stopped_the_list(failing, output, monkeypatch, caplog):
    monkeypatch.setattr(latent_file, "save_latent", refuse)
    said = r"finished rows 1, 2: lost, saving in .*unfinished_list failed \(No space left on device\)"
    with pytest.raises(RuntimeError, match=rf"(?s)^row 3 of 4: sampling step 1 of 1: the model gave NaN.*; {said}$"):
        sample_rows(failing(None))
    stopped(failing(Interrupted()))
    assert re.search(rf"sampling stopped in row 3 of 4; {said}\n", caplog.text)
    assert written(output) == []


def test_a_device_that_gives_nothing_back_does_not_hide_what_stopped_the_list(failing, output, monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(latent_file, "save_latent", fail)
    with pytest.raises(RuntimeError, match=r"(?s)^row 3 of 4: sampling step 1 of 1.*lost, .*\(CUDA error: an illegal"):
        sample_rows(failing(None))


def test_an_output_folder_that_refuses_is_not_the_end(failing, output):
    (output / "wan_gguf").write_bytes(b"a file")
    said = (
        r"finished rows 1, 2: saved in .*input, .*unfinished_list refused \(Not a directory\); the files are row_0001_"
    )
    with pytest.raises(RuntimeError, match=said):
        sample_rows(failing(None), plan=PLAN)
    assert names(output.parent / "input") == FILES


def test_what_could_be_saved_is_told_apart_from_what_could_not(failing, folder, monkeypatch):
    original = latent_file.save_latent

    def second_refused(path, *rest):
        return refuse() if "row_0002" in path.name else original(path, *rest)

    monkeypatch.setattr(latent_file, "save_latent", second_refused)
    said = (
        r"; finished row 1: saved in .*; finished row 2: lost, .*No space left.*; the files are row_0001_[^,]*; finish"
    )
    with pytest.raises(RuntimeError, match=said):
        sample_rows(failing(None), plan=PLAN)
    assert names(folder) == FILES[:1]


def test_nothing_is_written_without_a_finished_row_and_for_a_row_alone(rows, interrupted, failing, output, caplog):
    interrupted(4)  # all rows are on their way
    assert caplog.text.endswith("sampling stopped in row 3 of 4\n")
    with pytest.raises(RuntimeError, match=r"^sampling step 1 of 1"):
        sample_rows(failing(None)[2:3], plan=PLAN)
    (latent,) = sample_rows(rows[:1], plan=PLAN)
    assert written(output) == [] and ROW_FILE not in latent


@pytest.fixture
def seen(rows, folder, monkeypatch):
    """seen(plan) samples the rows and returns the latents, and by step of the list what the folder held then."""

    def run(plan: VideoPlan) -> tuple[list[dict], dict[int, list[str]]]:
        by_step = {}
        monkeypatch.setattr(
            "latent_preview.prepare_callback",
            lambda model, total: lambda step, *args: by_step.__setitem__(step, names(folder)),
        )
        return sample_rows(rows, plan=plan), by_step

    return run


def test_a_row_is_on_the_disk_before_the_next_one_begins(seen):
    by_step = seen(PLAN)[1]
    assert [len(by_step[step]) for step in range(16)] == [0] * 10 + [1, 1, 2, 2, 3, 3]
    assert by_step[IN_ROW_3] == FILES


def test_a_whole_list_leaves_no_files_where_no_save_video_would_take_them_over(seen, output):
    latents, by_step = seen(NOTHING_KNOWN)
    assert len(by_step[15]) == 3 and written(output) == []
    assert not any(ROW_FILE in latent for latent in latents)


@pytest.mark.parametrize("keeping", [True, False], ids=["latent kept", "latent not kept"])
def test_a_rows_file_goes_when_save_video_has_the_row(rows, folder, output, keeping):
    latents = sample_rows(rows, plan=PLAN)
    before = names(folder)
    assert len(before) == 4
    request = Request(filename_prefix="v", keep_latent=keeping, **VIDEO)
    made = save_videos(make_vae("2.1"), latents[1], request, {}, PLAN.vae_name)
    assert [name for name in before if name not in names(folder)] == FILES[1:]
    assert (made.latent is not None) == keeping
    save_videos(make_vae("2.1"), latents[1], request, {}, PLAN.vae_name)  # from the host's cache: the file is gone


def test_a_rows_file_stays_while_the_row_is_nowhere_else(rows, folder, output, monkeypatch):
    latents = sample_rows(rows, plan=PLAN)
    request = Request(filename_prefix="v", **VIDEO)
    changed = {**latents[0], "samples": latents[0]["samples"][:, :, :1]}
    save_videos(make_vae("2.1"), changed, request, {}, PLAN.vae_name)
    monkeypatch.setattr(latent_file, "save_latent", refuse)
    with pytest.raises(OSError, match="No space left"):
        save_videos(make_vae("2.1"), latents[1], request, {}, PLAN.vae_name)
    assert len(names(folder)) == 4


def test_a_full_disk_does_not_end_a_list(rows, output, monkeypatch, caplog):
    wanted = [latent["samples"] for latent in sample_rows(rows)]
    monkeypatch.setattr(latent_file, "save_latent", refuse)
    latents = sample_rows(rows, plan=PLAN)
    assert all(torch.equal(latent["samples"], one) for latent, one in zip(latents, wanted, strict=True))
    assert re.search(r"row 1 of 4 is finished and could not be saved in .*unfinished_list \(No space left", caplog.text)
    assert written(output) == [] and not any(ROW_FILE in latent for latent in latents)


def test_nothing_is_overwritten(failing, folder):
    folder.mkdir(parents=True)
    (folder / FILES[0]).write_bytes(b"another list's")
    stopped(failing(Interrupted()))
    assert names(folder) == [FILES[0], "row_0001_圆 circle_00002_.latent", FILES[1]]
    assert (folder / FILES[0]).read_bytes() == b"another list's"


def test_the_file_tells_what_a_latent_of_save_video_tells(failing, folder):
    rows = failing(Interrupted())
    stopped(rows)
    latent = load_latent(folder / FILES[0])
    made = {"sampling": sample_latent(**rows[0])["wan_gguf"], "video": VIDEO, "vae_name": PLAN.vae_name}
    assert latent[ORIGIN].tags == {**PLAN.tags, "wan_gguf": json.loads(json.dumps(made))}


def test_without_metadata_there_are_only_the_values(failing, folder, monkeypatch):
    monkeypatch.setattr(latent_file.args, "disable_metadata", True)
    stopped(failing(Interrupted()))
    latent = load_latent(folder / FILES[0])
    assert latent[ORIGIN].tags == {} and "wan_gguf" not in latent


def test_a_list_whose_workflow_is_not_known_is_saved_all_the_same(failing, folder):
    stopped(failing(Interrupted()), NOTHING_KNOWN)
    assert names(folder) == ["row_0001_00001_.latent", "row_0002_00001_.latent"]
    job = decode.read_job(folder / "row_0001_00001_.latent")
    assert (job.video, job.vae_name) == ({}, None)
