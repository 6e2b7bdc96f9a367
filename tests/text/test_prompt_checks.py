"""Prompts of a list that `Wan GGUF Prompt` would refuse are named by line and column before anything runs."""

import pytest

from wan_gguf.text.prompt_checks import check_prompts
from wan_gguf.text.prompt_list import PromptListError, Row, parse_prompt_list

LIST = "prompt,negative\n(red:1.2) circle,（模糊：2）\n(red:99),\na,(b:nan)\n(red：inf),(x:-1)\n(&nbsp;),\n"


def problems(rows, *columns):
    with pytest.raises(PromptListError) as caught:
        check_prompts(rows, *columns)
    return [problem.partition(":")[0] for problem in caught.value.problems]


def test_every_bad_weight_and_every_prompt_without_words_is_named():
    rows = parse_prompt_list(LIST, "csv")
    assert problems(rows) == [
        "line 3, column prompt",
        "line 4, column negative",
        "line 5, column prompt",
        "line 5, column negative",
        "line 6, column prompt",
    ]
    with pytest.raises(PromptListError, match=r"line 3, column prompt: prompt weight at character 6 must be from 0 to"):
        check_prompts(rows[1:2])
    with pytest.raises(PromptListError, match=r"line 6, column prompt: is empty; every row needs a prompt"):
        check_prompts(rows[4:])


def test_a_column_that_another_encoder_reads_is_left_out():
    rows = parse_prompt_list(LIST, "csv")
    assert problems(rows, ["negative"]) == ["line 4, column negative", "line 5, column negative"]
    check_prompts(rows, [])


def test_rows_that_the_encoder_takes_pass():
    check_prompts(
        [Row("a (red:1.2) circle", line=1), Row("（红色：0）的圆", "", line=2), Row("(at 10:30)", "()", line=3)]
    )
