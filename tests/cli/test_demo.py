"""The parts of the demo that need no server."""

import pytest

from wan_gguf.cli.demo import read_prompt_report, sheet_title
from wan_gguf.cli.errors import CliError
from wan_gguf.cli.workflow import load_workflow, settings_of


def test_the_prompt_nodes_display_gives_language_and_negative():
    assert read_prompt_report({"text": ["中文 (zh)\n- 模糊\n第二行 (en)"]}) == ("zh", "模糊\n第二行 (en)")
    assert read_prompt_report({"text": ["English (en)\n- "]}) == ("en", "")


@pytest.mark.parametrize("output", [{}, {"text": ["English"]}])
def test_a_prompt_node_without_a_report_is_an_error(output):
    with pytest.raises(CliError, match="did not report language"):
        read_prompt_report(output)


def test_the_sheets_title_leaves_out_what_its_font_cannot_draw():
    settings = settings_of(load_workflow())
    assert sheet_title({**settings, "prompt": "a red circle"}).startswith("a red circle   seed 0   steps ")
    assert sheet_title({**settings, "prompt": "红色"}).startswith("seed 0   steps ")
