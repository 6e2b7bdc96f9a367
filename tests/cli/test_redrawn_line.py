"""The redrawn line on terminals of several widths, of which a model counts cells and rows."""

import io
import struct
import sys
import unicodedata

import pytest

from wan_gguf.cli.batch_store import Job
from wan_gguf.cli.batch_view import BatchView
from wan_gguf.cli.redrawn_line import RedrawnLine, cells, cut, printable

CHINESE = "红色圆形在雨中向左移动然后慢慢消失在远处的山后面镜头缓缓拉远画面逐渐变暗最后"
ENGLISH = "a-red-circle-moves-left-in-the-rain-over-the-hills"


class Screen(io.StringIO):
    """A terminal of that many columns: rows of cells, a wide character takes two; it wraps."""

    def __init__(self, columns: int):
        super().__init__()
        self.columns, self.x, self.rows = columns, 0, [{}]

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        for one in text:
            if one == "\r":
                self.x = 0
            elif one == "\n":
                self.x = 0
                self.rows.append({})
            else:
                width = 2 if unicodedata.east_asian_width(one) in "WF" else 1
                if self.x + width > self.columns:
                    self.x = 0
                    self.rows.append({})
                row = self.rows[-1]
                for cell in range(self.x, self.x + width):
                    row.pop(cell, None)
                if self.x and row.get(self.x - 1, "") and unicodedata.east_asian_width(row[self.x - 1]) in "WF":
                    row[self.x - 1] = " "  # half of a wide character is no character
                row[self.x] = one
                self.x += width
        return len(text)

    def shown(self) -> list[str]:
        """The rows, without spaces at their ends."""
        return ["".join(text for _, text in sorted(row.items())).rstrip() for row in self.rows]


@pytest.fixture
def screen(monkeypatch):
    """screen(columns) -> a terminal of that width, which is the one that is asked for its size."""

    def make(columns: int) -> Screen:
        monkeypatch.setenv("COLUMNS", str(columns))
        return Screen(columns)

    return make


@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize("name", [ENGLISH, CHINESE], ids=["English", "Chinese"])
def test_a_running_job_takes_one_row_whatever_its_name(screen, columns, name):
    now, terminal = [0.0], screen(columns)
    view = BatchView(1000, 3, terminal, lambda: now[0])
    job = Job("k", {}, "queued", None, 1, 0, {}, None, None, None, 4, name)
    for step in range(1, 21):
        now[0] += 1.0
        view.running(job, "Sampling", step, 20)
    assert len(terminal.rows) == 1
    shown = "[3/1000, 20 s so far] Sampling 20/20: 0004-" + name
    assert shown.startswith(terminal.shown()[0]) and cells(terminal.shown()[0]) >= min(columns - 2, cells(shown))
    view.note("a note")
    assert terminal.shown() == ["a note", ""]


def test_a_shorter_text_leaves_nothing_of_the_longer_one(screen):
    terminal = screen(80)
    line = RedrawnLine(terminal)
    for text in ("一二三四", "ab", "c"):
        line.show(text)
        assert terminal.shown() == [text]
    line.leave()
    line.leave()
    assert terminal.shown() == ["c", ""]


def test_a_lasting_line_is_not_cut_and_the_next_one_is_drawn_below(screen):
    terminal = screen(20)
    line = RedrawnLine(terminal)
    line.show("x" * 50)
    assert terminal.shown() == ["x" * 19]
    line.above("y" * 30)
    line.show("z")
    assert terminal.shown() == ["y" * 20, "y" * 10, "z"]


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_the_width_is_that_of_the_stream_and_not_of_stdout():
    import fcntl
    import pty
    import termios

    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 30, 0, 0))  # rows, columns, pixels
    with open(writer, "w", encoding="utf-8") as stream, open(reader, "rb", buffering=0) as seen:
        RedrawnLine(stream).show("x" * 200)
        assert seen.read(1000) == b"\r" + b"x" * 29


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("abc", 3, "abc"),
        ("abc", 2, "ab"),
        ("圆圆", 3, "圆"),
        ("圆圆", 4, "圆圆"),
        ("e\u0301e", 1, "e\u0301"),
        ("a", 0, ""),
    ],
)
def test_text_is_cut_by_the_cells_it_takes(text, columns, expected):
    assert cut(text, columns) == expected
    assert cells(expected) <= columns


def test_chinese_and_emoji_are_printable():
    text = "圆，“红色”　é \U0001f468\u200d\U0001f469 \t\n"
    assert printable(text) == text
    assert printable("\ud83d \x7f \u2028") == "? ? ?"
