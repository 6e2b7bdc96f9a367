"""A prompt list becomes folders of videos on a real server with this pack; the same command again has nothing to do."""

import json

from PIL import Image

from wan_gguf.cli import batch
from wan_gguf.cli.command_batch import parse
from wan_gguf.cli.output import decode_frames, frames_sha256
from wan_gguf.cli.record_form import read_record

LIST = """prompt,seed,steps,frames,name
a red circle moves left,11,2,5,english
红色圆形向左移动,12,2,5,
"""


def test_a_prompt_list_becomes_videos_with_records(server, host_dir, tmp_path, capsys):
    path, out = tmp_path / "列表.csv", tmp_path / "结果"
    path.write_text(LIST, encoding="utf-8")
    address = f"http://127.0.0.1:{server.port}"
    options = parse([str(path), "--server", address, "--out", str(out), "--json"])
    assert batch.run(options, host_dir) == 0
    said = json.loads(capsys.readouterr().out)
    assert [(job["number"], job["name"], job["state"]) for job in said["jobs"]] == [
        (1, "english", "done"),
        (2, "红色圆形向左移动", "done"),
    ]
    for number, job in enumerate(said["jobs"]):
        folder = out / f"{number + 1:04d}-{job['name']}"
        assert job["folder"] == str(folder) and job["run_s"] > 0
        record = read_record(folder / "settings.json")
        assert (record["settings"]["seed"], record["settings"]["steps"]) == (11 + number, 2)
        assert record["language"] == ("en", "zh")[number]
        frames = decode_frames([frame.read_bytes() for frame in sorted((folder / "save_frames").iterdir())])
        assert len(frames) == 5 and record["frames_sha256"] == frames_sha256(frames)
        assert b"ftyp" in (folder / "save_video.mp4").read_bytes()[:16]
        assert record["nodes"] == {"video": "save_video", "frames": "save_frames"}
        with Image.open(folder / "sheet.png") as sheet:
            assert sheet.width > sheet.height
    assert batch.run(options, host_dir) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["jobs"] == said["jobs"]
