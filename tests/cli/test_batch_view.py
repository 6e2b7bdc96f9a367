"""What a batch shows: a line for each job, the total with the time left; on a terminal the running one is redrawn."""

import io

from wan_gguf.cli.batch_store import Job
from wan_gguf.cli.batch_view import BatchView


def job(number: int, run_s: float | None = None) -> Job:
    return Job("k", {}, "done", None, 1, 0, {}, None, None, run_s, number, f"name{number}")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_pipe_there_is_one_line_for_each_job():
    clock, stream = [0.0], io.StringIO()
    view = BatchView(10, 4, stream, lambda: clock[0])
    assert view.bar() == "4/10, 0 s so far"
    view.running(job(5), "Sampling", 3, 20)
    clock[0] = 30.0
    view.ended(job(5, 29.6), "done")
    view.ended(job(6), "failed: why")
    view.finish()
    assert stream.getvalue().splitlines() == [
        "0005-name5: done in 30 s   [5/10, 30 s so far, about 2 min 30 s left]",
        "0006-name6: failed: why   [6/10, 30 s so far, about 1 min 0 s left]",
    ]


def test_the_time_a_server_takes_to_start_is_no_pace():
    clock = [0.0]
    view = BatchView(11, 0, io.StringIO(), lambda: clock[0])
    clock[0] = 600.0
    view.running(job(1))
    clock[0] = 602.0
    view.ended(job(1), "done")
    assert view.left_s() == 20.0


def test_on_a_terminal_the_running_job_is_redrawn_in_place():
    clock, stream = [0.0], Terminal()
    view = BatchView(2, 0, stream, lambda: clock[0])
    for step in range(1, 4):
        clock[0] += 1.0
        view.running(job(1), "Sampling", step, 20)
    view.ended(job(1), "done")
    view.finish()
    text = stream.getvalue()
    assert text.count("\n") == 1 and text.count("\r") == 4
    assert "\r[0/2, 1 s so far] Sampling 1/20: 0001-name1" in text


def test_redrawing_is_not_faster_than_anybody_reads():
    stream = Terminal()
    view = BatchView(2, 0, stream, lambda: 1.0)
    for step in range(1, 500):
        view.running(job(1), "Sampling", step, 500)
    assert stream.getvalue().count("\r") <= 1
