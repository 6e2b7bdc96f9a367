"""Progress: redrawn on a terminal, few lines in a pipe; what is said does not steer the terminal."""

import io
import itertools
import re

from wan_gguf.cli.terminal import Progress, answer, error


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def _play(stream):
    progress = Progress(stream)
    for stage in ("Loading the video model", "Sampling"):
        progress.stage(stage)
        progress.stage(stage)
        for step in range(101):
            progress.step(step, 100)
        progress.step(1, 1)
    progress.finish()
    return re.sub(r"\[ *[\d.]+ s\] ", "", stream.getvalue())


def test_a_pipe_gets_at_most_eleven_lines_per_stage():
    lines = _play(io.StringIO()).splitlines()
    assert len(lines) == 2 * 12
    assert lines[0] == "Loading the video model" and lines[-1] == "Sampling 100/100"
    assert "\r" not in "".join(lines)


def test_a_terminal_keeps_one_line_per_stage_and_covers_longer_text():
    shown = _play(Terminal())
    assert shown.count("\n") == 2 and shown.endswith("\n")
    first = shown.split("\n")[0].split("\r")
    assert first[-1] == "Loading the video model 100/100"
    assert all(len(later) >= len(earlier) for earlier, later in itertools.pairwise(first[1:]))


def test_words_from_elsewhere_do_not_steer_the_terminal(capsys):
    evil = "a\x1b]0;owned\x07\x9b2J\r\u202eb\nc"
    answer(evil)
    error(evil)
    assert capsys.readouterr() == ("a?]0;owned??2J??b\nc\n", "error: a?]0;owned??2J??b\nc\n")
