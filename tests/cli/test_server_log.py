"""The lines of a host's log that are shown for a failure."""

import pytest

from wan_gguf.cli.server_log import LINES, failure_lines, port_was_taken


def test_an_import_error_is_the_last_line_shown():
    log = (
        "a\n\x1b[33m[WARNING]\x1b[0m Cannot import /p module for custom nodes: no x\nStarting server\nTo see the GUI\n"
    )
    assert failure_lines(log) == ["a", "[WARNING] Cannot import /p module for custom nodes: no x"]


def test_the_last_exception_is_the_last_line_shown():
    trace = "Traceback (most recent call last):\n  File x\n    y\n{}: {}\n"
    log = trace.format("KeyError", "1") + "\nbetween\n" + trace.format("OSError", "2") + "stopping\n"
    shown = failure_lines(log)
    assert shown[-1] == "OSError: 2"
    assert len(shown) <= LINES


def test_without_any_the_end_of_the_log():
    assert failure_lines("\n".join(map(str, range(100)))) == [str(n) for n in range(100 - LINES, 100)]
    assert failure_lines("") == []


@pytest.mark.parametrize(
    ("log", "taken"),
    [
        (
            "OSError: [Errno 98] error while attempting to bind on address ('127.0.0.1', 1): address already in use",
            True,
        ),
        ("OSError: [WinError 10048] [Errno 10048] only one usage", True),
        ("[Errno 981]", False),
        ("", False),
    ],
)
def test_a_taken_port_is_recognised(log, taken):
    assert port_was_taken(log) is taken
