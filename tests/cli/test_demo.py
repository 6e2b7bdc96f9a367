"""The parts of the demo that need no server."""

from wan_gguf.cli import sheet_font
from wan_gguf.cli.demo import sheet_title
from wan_gguf.cli.workflow import load_workflow, settings_of


def test_the_sheets_title_leaves_out_what_no_font_here_can_draw(monkeypatch):
    monkeypatch.setattr(sheet_font, "CHINESE", ())
    settings = settings_of(load_workflow())
    assert sheet_title({**settings, "prompt": "a red circle"}).startswith("a red circle   seed 0   steps ")
    assert sheet_title({**settings, "prompt": "红色"}).startswith("seed 0   steps ")
