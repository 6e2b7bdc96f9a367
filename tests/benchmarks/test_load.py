"""The full-size benchmark: its tables against the dialects', its writer, and a whole run with tiny models; no times."""

import json
import os
import signal
import subprocess
import sys

import gguf
import numpy as np
import pytest

from wan_gguf.benchmarks import full_size_blocks as blocks
from wan_gguf.benchmarks import full_size_files as files
from wan_gguf.benchmarks import full_size_suite as suite
from wan_gguf.benchmarks.weights import POOL_BLOCKS, STD
from wan_gguf.loaders.umt5 import load_umt5
from wan_gguf.loaders.wan import load_wan
from wan_gguf.ops.dequantize import dequantize
from wan_gguf.tests.loaders.build import gguf_head
from wan_gguf.tests.loaders.dialects import city96
from wan_gguf.tests.loaders.dialects_umt5 import llama_cpp
from wan_gguf.tests.loaders.models import umt5_xxl_shapes, wan_model_shapes

KEYS = (
    "ti2v5b_q4km_bytes", "a14b_q4km_bytes", "open_s", "load_s", "load_anon_mb", "step_s", "step_peak_anon_mb",
    "umt5_encode_s", "umt5_peak_anon_mb",
)  # fmt: skip


@pytest.mark.parametrize(
    ("table", "model", "published"),
    [(files.ti2v_5b, "Wan2.2-TI2V-5B", "ti2v-5b"), (files.a14b, "Wan2.2-T2V-A14B", "a14b")],
)
def test_wan_tables_are_those_of_the_published_files(table, model, published):
    dialect = city96(wan_model_shapes(model), "Q4_K_M")
    assert dict(table(False)) == dialect.types()
    head, data_bytes = gguf_head(dialect.types(), dialect.metadata)
    assert files.total_bytes(table(False)) == data_bytes
    assert len(head) + data_bytes == files.PUBLISHED[published]


@pytest.mark.parametrize(("table", "published"), [(files.ti2v_5b, "ti2v-5b"), (files.a14b, "a14b")])
def test_the_writer_s_files_have_the_published_sizes(tmp_path, monkeypatch, table, published):
    """Written without its data, a file is as long as what stands before them."""
    monkeypatch.setattr(files, "tensor_pieces", lambda *_: ())
    path = tmp_path / "head.gguf"
    files.write_wan(path, table(False), seed=0)
    assert path.stat().st_size + files.total_bytes(table(False)) == files.PUBLISHED[published]


def test_the_encoder_s_table_is_that_of_the_published_file():
    table = files.umt5_xxl(False)
    assert dict(table) == llama_cpp(umt5_xxl_shapes(), "Q5_K_M").types()
    assert files.total_bytes(table) == files.PUBLISHED["umt5-xxl data"]


# the rounding of normal numbers to 32 and 64 steps, and of the scales to 6 and 8 bits
@pytest.mark.parametrize(("type_name", "shape", "error"), [("Q5_K", (8, 32), 0.045), ("Q6_K", (16, 16), 0.025)])
def test_pools_are_quantised_normal_numbers(type_name, shape, error):
    pool = blocks._POOLS[type_name](np.random.default_rng(3))
    decoded = gguf.quants.dequantize(pool, gguf.GGMLQuantizationType[type_name])
    numbers = STD * np.random.default_rng(3).standard_normal((POOL_BLOCKS, *shape)).reshape(POOL_BLOCKS, -1)
    assert np.linalg.norm(decoded - numbers) < error * np.linalg.norm(numbers)


def test_data_comes_in_pieces_of_the_right_length(monkeypatch):
    monkeypatch.setattr(blocks, "PIECE_BYTES", 1000)
    for type_name, shape, nbytes in (("Q4_K", (3, 2560), 30 * 144), ("F16", (3, 500), 3000), ("F32", (7,), 28)):
        pieces = list(blocks.tensor_pieces(type_name, shape, np.random.default_rng(0)))
        assert sum(piece.nbytes for piece in pieces) == nbytes
        assert max(piece.nbytes for piece in pieces) <= 1000


def test_a_file_loads_with_finite_weights_and_norms_near_one(tmp_path):
    table = files.a14b(True)
    path = tmp_path / "a.gguf"
    files.write_wan(path, table, seed=1)
    tensors = load_wan(path).tensors
    assert {name: (packed.format.name, tuple(packed.shape)) for name, packed in tensors.items()} == dict(table)
    values = {name: dequantize(packed) for name, packed in tensors.items()}
    assert all(value.isfinite().all() for value in values.values())
    assert float(values["blocks.0.norm3.weight"].mean()) == pytest.approx(1, abs=0.01)
    assert float(values["blocks.0.ffn.2.weight"].std()) == pytest.approx(STD, rel=0.05)
    written = files.Written.found(path)
    assert (written.nbytes, written.data_bytes) == (path.stat().st_size, files.total_bytes(table))


def test_the_two_experts_differ_and_each_repeats(tmp_path):
    paths = [tmp_path / f"{i}.gguf" for i in range(3)]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        files.write_wan(path, files.a14b(True), seed)
    first, same, other = (path.read_bytes() for path in paths)
    assert first == same and first != other


def test_the_prompt_is_one_token_per_word(tmp_path):
    import sentencepiece

    path = tmp_path / "t.gguf"
    files.write_umt5(path, files.umt5_xxl(True), seed=0)
    processor = sentencepiece.SentencePieceProcessor(model_proto=load_umt5(path).spiece_model)
    assert processor.get_piece_size() == files.TINY_UMT5["vocab_size"]
    assert processor.encode(f"{files.word(0)} {files.word(1)}") == [260, 261]  # behind 4 special pieces and 256 bytes


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 10**9})())
    with pytest.raises(OSError, match=r"has 1\.0 GB free; .* GB are needed; make room"):
        suite.single(tmp_path, True)
    assert list(tmp_path.iterdir()) == []


def test_another_size_than_the_published_one_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ti2v_5b", lambda tiny, table=files.ti2v_5b: table(True))
    with pytest.raises(OSError, match=r"bytes were written, the published file has 3433116000"):
        suite.single(tmp_path, False)


@pytest.fixture(scope="module")
def tiny_run(root, host_dir, tmp_path_factory):
    """The finished process of a whole run with tiny models, and the folder that held its files for a while."""
    folder = tmp_path_factory.mktemp("cache")
    done = subprocess.run(
        [sys.executable, str(root / "benchmarks" / "load.py"), "--tiny", "--json"],
        env={**os.environ, "COMFYUI_DIR": str(host_dir), "WAN_GGUF_CACHE": str(folder)},
        capture_output=True, encoding="utf-8", timeout=1800,
    )  # fmt: skip
    return done, folder


@pytest.mark.long
def test_a_whole_run_prints_every_key(tiny_run):
    done, _ = tiny_run
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert all(results[key] is not None for key in KEYS)
    assert results["faults"] == []
    assert results["umt5"]["tokens"] == 512 and results["umt5"]["embedding_is_packed"]
    assert results["a14b"]["split"] == "1 step high_noise + 1 step low_noise (boundary 0.875)"
    assert results["5b"]["exact"]["cfg"] == 1.0


@pytest.mark.long
def test_a_whole_run_leaves_no_file(tiny_run):
    _, folder = tiny_run
    assert [path.name for path in folder.glob("full-size-*")] == []


@pytest.mark.long
def test_kept_files_are_used_again(script, tmp_path):
    for _ in range(2):
        done = script("load.py", "--tiny", "--only", "umt5", "--keep", tmp_path)
        assert done.returncode == 0, done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["umt5-xxl-Q5_K_M.gguf"]
    assert "written" not in done.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [(["--only", "5b,7b"], "got '7b'; 5b, umt5, a14b are allowed"), (["--keep", __file__], "is no folder")],
)
def test_wrong_options_end_before_anything_is_imported(root, tmp_path, options, complaint):
    command = [sys.executable, "-S", str(root / "benchmarks" / "load.py"), *options]  # -S: no installed package at all
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == 2
    assert complaint in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("signal_name", "code"), [("SIGINT", 130), ("SIGTERM", 128 + signal.SIGTERM)])
def test_a_stopped_run_removes_its_files(root, host_dir, tmp_path, signal_name, code):
    if sys.platform == "win32":
        pytest.skip("signals cannot be sent to one process on Windows")
    process = subprocess.Popen(
        [sys.executable, str(root / "benchmarks" / "load.py"), "--tiny", "--only", "5b"],
        env={**os.environ, "COMFYUI_DIR": str(host_dir), "WAN_GGUF_CACHE": str(tmp_path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip
    try:
        while " bytes written in " not in process.stderr.readline():
            pass
        assert list(tmp_path.glob("full-size-*/*.gguf")), "the file is there"
        process.send_signal(getattr(signal, signal_name))
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code
    assert "Traceback" not in err
    assert list(tmp_path.glob("full-size-*")) == []
