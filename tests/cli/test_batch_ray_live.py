"""A batch on a Ray cluster of two nodes and a head, with real ComfyUIs and the reference model; one node is lost.

Its results are those of the same list on one server. The nodes are on this machine, and each of the servers has one
thread, or they would wait for each other.
"""

import json
import sys
from pathlib import Path

import pytest

from wan_gguf.cli import batch
from wan_gguf.cli.command_batch import parse
from wan_gguf.cli.record_form import read_record
from wan_gguf.tests.cli.batch_ray_case import Loss, running_cluster

pytest.importorskip("ray", reason="Ray is not installed: it has no package for this platform")
pytestmark = [
    pytest.mark.long,  # three ComfyUIs at a time for two minutes
    pytest.mark.skipif(sys.platform == "win32", reason="Ray's clusters of several nodes need POSIX"),
]

PROMPTS = ("a red circle moves left", "一个蓝色方块向右移动")
NODES, JOBS, AT_JOB = 2, 7, 4  # of three jobs that were given, one server can have one at most: two are done


def write_list(path: Path) -> Path:
    """Small jobs: prompt, seed and size of each its own."""
    rows = ["prompt,seed,steps,frames,size"]
    rows += [f"{PROMPTS[number % 2]},{number},2,{1 + 4 * (number % 2)},64x64" for number in range(1, JOBS + 1)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def results(out: Path) -> dict[str, tuple]:
    """Folder -> what must not depend on where it was computed; the video is left out, for its batch and the number of
    its try are in it, with the workflow."""
    folders = sorted(path for path in out.iterdir() if path.is_dir() and not path.name.startswith("."))
    records = {folder.name: read_record(folder / "settings.json") for folder in folders}
    return {
        name: (record["settings"], record["frames_sha256"], record["frame_hashes"], record["models"])
        for name, record in records.items()
    }


def test_two_real_servers_one_of_them_lost_make_what_one_makes(host_dir, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(batch, "venv_python", lambda: Path(sys.executable))
    jobs, alone, shared = write_list(tmp_path / "列表.csv"), tmp_path / "alone", tmp_path / "shared"
    assert batch.run(parse([str(jobs), "--local", "--out", str(alone)]), host_dir) == 0
    capfd.readouterr()
    with running_cluster(*[{"num_cpus": 1}] * NODES) as cluster:
        loss = Loss(cluster, monkeypatch, AT_JOB)
        options = parse([str(jobs), "--ray", cluster.address, "--out", str(shared), "--json"])
        assert batch.run(options, host_dir) == 0
    said, shown = capfd.readouterr()
    summary = json.loads(said)
    assert (summary["done"], summary["failed"], summary["waiting"]) == (JOBS, 0, 0)
    assert 0 < loss.done_before < JOBS - 1, "the node was not lost in the middle"
    assert shown.count("its node or worker was lost; trying again") == 1
    assert shown.count(": done") == JOBS and loss.given == JOBS + 1  # each once, and the lost one again
    assert len({record[1] for record in results(alone).values()}) == JOBS
    assert results(shared) == results(alone)
