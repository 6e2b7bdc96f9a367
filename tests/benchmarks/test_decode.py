"""`bench decode`: its options, and which results it takes for wrong."""

import pytest

from wan_gguf.benchmarks import decode, decode_suite


def results(peaks=(100, 101, 104), hashes=("a", "b", "c")):
    """As three numbers of frames would give them; the host's memory grows."""
    runs = [
        {
            "way": way,
            "frames": frames,
            "frames_sha256": digest,
            "seconds": 2.0,
            "peak_bytes": peak * 1_000_000,
            "process_bytes": peak * 1_000_000,
        }
        for frames, digest, flat in zip((17, 81, 241), hashes, peaks, strict=True)
        for way, peak in (("host", flat + frames), ("streamed", flat), ("file", flat))
    ]
    spread = {way: decode_suite._spread(runs, way) for way in decode_suite.WAYS}
    return {"machine": {"cpu": "C"}, "size": 256, "vae": "v.safetensors", "runs": runs, "spread": spread}


def test_constant_memory_and_equal_frames_are_right():
    assert decode_suite.faults(results()) == []


def test_memory_that_grows_by_more_than_five_percent_is_a_fault():
    found = decode_suite.faults(results(peaks=(100, 101, 106)))
    assert found == [
        "streamed: the peaks differ by 6.0%; 5% is allowed",
        "streamed into a file: the peaks differ by 6.0%; 5% is allowed",
    ]


def test_other_frames_than_the_hosts_are_a_fault():
    wrong = results()
    wrong["runs"][4]["frames_sha256"] = "x"
    assert decode_suite.faults(wrong) == ["the 81 frames are not the same bytes in all three runs"]


def test_the_table_has_a_row_for_each_number_of_frames():
    lines = decode_suite.table(results()).splitlines()
    assert "| 17 | 117 | 2.00 | 100 | 2.00 | 100 | 2.00 | 1.00 |" in lines
    assert lines[-1].startswith("the process's largest peak above its smallest: host's vae.decode ")


@pytest.mark.parametrize("arguments", [["--frames", "16"], ["--frames", "a"], ["--size", "100"], ["--size", "-16"]])
def test_wrong_options_end_before_anything_is_imported(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        decode.parser().parse_args(arguments)
    assert ended.value.code == 2 and "allowed" in capsys.readouterr().err
