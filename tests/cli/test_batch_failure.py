"""Which failures pass, and what a history entry says."""

import pytest

from wan_gguf.cli.batch_failure import RETRIES, history_end, history_seconds, judge


@pytest.mark.parametrize(
    ("kind", "message", "judged"),
    [
        ("torch.OutOfMemoryError", "Allocation on device 0 would exceed allowed memory", "memory"),
        ("torch.cuda.OutOfMemoryError", "x", "memory"),
        ("MemoryError", "", "memory"),
        ("RuntimeError", "CUDA error: out of memory", "memory"),
        ("RuntimeError", "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried", "memory"),
        ("OSError", "[Errno 28] No space left on device: '/x'", "disk"),
        ("OSError", "[WinError 112] There is not enough space on the disk", "disk"),
        ("ValueError", "frames must be 1 + a multiple of 4", "lasting"),
        ("", "", "lasting"),
    ],
)
def test_kinds_of_failure(kind, message, judged):
    failure = judge({"node_id": "3", "node_type": "N", "exception_type": kind, "exception_message": message})
    assert failure.kind == judged and failure.kind in RETRIES
    assert failure.text.startswith("3 (N) failed: ") and "\n" not in failure.text


def test_the_ends_a_history_can_tell():
    def told(*messages, **status):
        return history_end({"status": {"messages": list(messages), **status}})[0]

    assert told(["execution_start", {}], ["execution_success", {}], status_str="success") == "success"
    assert told(["execution_error", {"node_id": "1"}], status_str="error") == "error"
    assert told(["execution_interrupted", {}], status_str="error") == "interrupted"
    assert history_end({}) == ("error", {"exception_message": "ComfyUI's history does not say why"})
    assert history_end({"status": None})[0] == "error"


@pytest.mark.parametrize("status", [1, [], "words", {"messages": 1}, {"messages": [1, ["a"], [["b"], {}], ["c", 1]]}])
def test_a_history_of_another_form_is_an_end_without_a_reason(status):
    assert history_end({"status": status}) == ("error", {"exception_message": "ComfyUI's history does not say why"})
    assert history_seconds({"status": status}) is None


def test_times_that_are_none_give_no_seconds():
    start, end = ["execution_start", {"timestamp": "1000"}], ["execution_success", {"timestamp": 3500}]
    assert history_seconds({"status": {"messages": [start, end]}}) is None


def test_seconds_come_from_the_servers_own_clock():
    start, end = ["execution_start", {"timestamp": 1000}], ["execution_success", {"timestamp": 3500}]
    assert history_seconds({"status": {"messages": [start, end]}}) == 2.5
    assert history_seconds({"status": {"messages": [start]}}) is None
