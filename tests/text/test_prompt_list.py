"""Prompt lists: the three kinds, every refusal with its line and column, seeds, and limits equal to the nodes'."""

import codecs
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_gguf.sampling.guidance import validate_cfg
from wan_gguf.sampling.latent import validate_frames, validate_size
from wan_gguf.sampling.noise import validate_seed
from wan_gguf.text.prompt_columns import MAX_SEED
from wan_gguf.text.prompt_list import (
    MAX_FILE_BYTES,
    PromptListError,
    Row,
    decode_list,
    list_kind,
    load_prompt_list,
    parse_prompt_list,
    with_seeds,
)

FULL = Row("a red circle", "blurry", 7, 4.5, 6, 832, 480, 81, "circle", line=2)


def problems(text, kind):
    with pytest.raises(PromptListError) as caught:
        parse_prompt_list(text, kind)
    return caught.value.problems


def test_text_has_a_prompt_a_line_without_blank_lines_and_comments():
    text = (
        '\ufeff# my list\r\n\r\n  a red circle, moving  \r\n   # not yet\n一个红色的圆\ra "quoted" one # here\x85\u2028'
    )
    assert [(row.line, row.prompt) for row in parse_prompt_list(text, "text")] == [
        (3, "a red circle, moving"),
        (5, "一个红色的圆"),
        (6, 'a "quoted" one # here'),
    ]
    assert parse_prompt_list("a", "text") == (Row("a", line=1),)


def test_csv_reads_every_column_in_any_order_and_letter_case():
    header = "Name, FRAMES,size,steps,cfg,seed,negative,prompt\n"
    assert parse_prompt_list(header + "circle,81,832x480,6,4.5,7,blurry,a red circle", "csv") == (FULL,)


def test_csv_leaves_out_columns_empty_cells_and_empty_rows():
    text = "prompt,seed\r\na,\r\n\r\n,\r\n  ,  \r\nb,9\r\n"
    assert parse_prompt_list(text, "csv") == (Row("a", line=2), Row("b", seed=9, line=6))


def test_csv_quotes_commas_quotes_and_line_ends():
    text = 'prompt,negative\n"a, ""red"" circle\nbelow",x\n红色，圆,"y"\n'
    first, second = parse_prompt_list(text, "csv")
    assert (first.prompt, first.negative, first.line) == ('a, "red" circle\nbelow', "x", 2)
    assert (second.prompt, second.negative, second.line) == ("红色，圆", "y", 4)


def test_json_lines_take_numbers_text_and_null():
    row = {"prompt": "a red circle", "negative": "blurry", "seed": 7, "cfg": 4.5, "steps": 6, "size": "832x480"}
    row |= {"frames": 81, "name": "circle"}
    text = "\n" + json.dumps(row) + '\n{"prompt": "一个圆", "seed": null, "negative": ""}\n'
    assert parse_prompt_list(text, "jsonl") == (FULL, Row("一个圆", line=3))


@pytest.mark.parametrize("size", ["832x480", "832X480", "832 x 480", "832×480", "832*480"])
def test_spellings_of_a_size(size):
    (row,) = parse_prompt_list(f"prompt,size\na,{size}", "csv")
    assert (row.width, row.height) == (832, 480)


BAD_CELLS = [
    ("seed", "-1", "whole number from 0 to 18446744073709551615, got '-1'"),
    ("seed", str(2**64), "got '18446744073709551616'"),
    ("seed", "1.23E+19", "got '1.23E+19'"),
    ("seed", "７", "whole number"),
    ("seed", "1_000", "whole number"),
    ("cfg", "0.9", "a number from 1.0 to 15.0, got '0.9'"),
    ("cfg", "15.1", "got '15.1'"),
    ("cfg", "nan", "got 'nan'"),
    ("cfg", "inf", "got 'inf'"),
    ("steps", "0", "whole number from 1 to 1000"),
    ("steps", "1001", "whole number from 1 to 1000"),
    ("size", "832", "WIDTHxHEIGHT in pixels, as in 832x480, got '832'"),
    ("size", "0x480", "width must be a multiple of 16 from 16 to 16384, got 0"),
    ("size", "832x481", "height must be a multiple of 16"),
    ("size", "832x16400", "height must be a multiple of 16"),
    ("frames", "80", "1 + a multiple of 4, got 80; nearest: 77 or 81"),
    ("frames", "0", "whole number from 1 to 16385"),
    ("frames", "16389", "whole number from 1 to 16385"),
    ("name", "../x", "without folders and without '/', got '../x'"),
    ("name", "a\\b", "without folders and without '\\\\'"),
    ("name", "..", "a name that every system takes"),
    ("name", "a.", "a name that every system takes"),
    ("name", "CON.txt", "a name that every system takes"),
    ("name", "圆" * 67, "200 bytes in UTF-8 or fewer, got 201"),
]


@pytest.mark.parametrize(("column", "cell", "message"), BAD_CELLS)
def test_a_bad_cell_names_line_and_column(column, cell, message):
    (problem,) = problems(f"prompt,{column}\na,\nb,{cell}\n", "csv")
    assert problem.startswith(f"line 3, column {column}: ")
    assert message in problem


BAD_LINES = [
    ("csv", "prompt,seed\na\n", "line 2: 1 cells, the header has 2 columns (prompt, seed)"),
    ("csv", "prompt\na, b\n", "line 2: 2 cells, the header has 1 columns (prompt); a prompt with a comma goes between"),
    ("csv", 'prompt\n"a" b\n', "line 2: ',' expected after '\"'"),
    ("csv", 'prompt\na\n"b\n\nc', "line 3: unexpected end of data"),
    (
        "csv",
        "promt\na\n",
        "line 1: column 'promt' is unknown; allowed: prompt, negative, seed, cfg, steps, size, frames",
    ),
    ("csv", "seed\n1\n", "line 1: column prompt is missing in the header; got seed"),
    ("csv", "\nprompt,seed,Seed\na,1,2\n", "line 2: column seed is there twice"),
    ("csv", "prompt;seed\na;1\n", "line 1: the header's columns are separated by semicolons; commas are allowed"),
    ("csv", "prompt\tseed\na\t1\n", "line 1: the header's columns are separated by tabs"),
    ("csv", "prompt,seed\n,1\n", "line 2, column prompt: is empty; every row needs a prompt"),
    ("jsonl", '{"prompt": "a"}\n{"prompt": "b"', "line 2: Expecting ',' delimiter at character 15; every line"),
    ("csv", f"{'a paragraph ' * 9999},b\n", f"line 1: column '{'a paragraph ' * 4}a parag ... is unknown; allowed"),
    ("jsonl", '{"prompt": "a", "%s": 1}' % ("x" * 99), f"line 1: column '{'x' * 55} ... is unknown; allowed: prompt"),
    ("jsonl", '["a"]', "line 1: a JSON list; every line is a JSON object such as"),
    ("jsonl", '{"seed": 1}', "line 1, column prompt: is empty"),
    ("jsonl", '{"prompt": " "}', "line 1, column prompt: is empty"),
    ("jsonl", '{"prompt": 7}', "line 1, column prompt: must be text, got 7"),
    ("jsonl", '{"prompt": "\\ud800"}', "line 1, column prompt: is no valid Unicode"),
    ("jsonl", '{"prompt": "a", "prompt": "b"}', "line 1: a key is there twice"),
    ("jsonl", '{"prompt": "a", "width": 832}', "line 1: column 'width' is unknown; allowed: prompt, negative"),
    ("jsonl", '{"prompt": "a", "seed": true}', "line 1, column seed: must be a whole number"),
    ("jsonl", '{"prompt": "a", "seed": 7.0}', "line 1, column seed: must be a whole number"),
    ("jsonl", '{"prompt": "a", "cfg": NaN}', "line 1: NaN is not a number of JSON"),
    ("jsonl", '{"prompt": "a", "cfg": 1e999}', "line 1, column cfg: must be a number from 1.0 to 15.0, got inf"),
    ("jsonl", '{"prompt": "a", "cfg": %s}' % ("9" * 4000), "line 1, column cfg: must be a number"),
    ("jsonl", '{"prompt": "a", "size": [832, 480]}', "line 1, column size: must be WIDTHxHEIGHT in pixels"),
    ("jsonl", '{"prompt": ' + "[" * 100_000, "line 1: "),
]


@pytest.mark.parametrize(("kind", "text", "message"), BAD_LINES)
def test_a_bad_line_is_named(kind, text, message):
    (problem,) = problems(text, kind)
    assert problem.startswith(message)


@pytest.mark.parametrize(("kind", "text"), [("text", "# a\n\n"), ("csv", "prompt\n"), ("csv", ""), ("jsonl", "\n")])
def test_a_list_without_prompts_is_refused(kind, text):
    assert "no prompts" in problems(text, kind)[0]


def test_every_bad_row_has_its_error_and_nothing_is_returned():
    text = "prompt,seed\ngood,1\nbad,x\n,2\nworse,-1\n"
    assert [problem.partition(":")[0] for problem in problems(text, "csv")] == [
        "line 3, column seed",
        "line 4, column prompt",
        "line 5, column seed",
    ]
    with pytest.raises(PromptListError, match=r"(?s)line 2,.*line 21,.*\nand 5 rows more with errors$"):
        parse_prompt_list("prompt,seed\n" + "a,x\n" * 25, "csv")


@pytest.mark.parametrize(
    ("check", "column", "values"),
    [
        (validate_seed, "seed", [-1, 0, 2**64 - 1, 2**64]),
        (validate_cfg, "cfg", [0.99, 1.0, 1, 15.0, 15.01]),
        (validate_frames, "frames", [*range(11), 81, 121, 16385]),
        (
            lambda text: validate_size(*map(int, text.split("x"))),
            "size",
            ["8x16", "16x16", "24x16", "16x40"],
        ),
    ],
)
def test_a_row_may_be_what_sampling_allows(check, column, values):
    for value in values:
        try:
            check(value)
        except ValueError:
            with pytest.raises(PromptListError):
                parse_prompt_list(json.dumps({"prompt": "a", column: value}), "jsonl")
        else:
            parse_prompt_list(json.dumps({"prompt": "a", column: value}), "jsonl")


def test_seed_policies():
    rows = (Row("a", seed=50, line=2), Row("b", line=3), Row("c", seed=60, line=4))

    def seeds(policy):
        return [row.seed for row in with_seeds(rows, policy, 7)]

    assert seeds("from the row") == [50, 7, 60]
    assert seeds("fixed") == [7, 7, 7]
    assert seeds("increment") == [7, 8, 9]
    assert [row.prompt for row in with_seeds(rows, "fixed", 7)] == ["a", "b", "c"]


def test_seeds_that_cannot_be_are_refused():
    rows = (Row("a", line=2), Row("b", line=5))
    with pytest.raises(PromptListError, match=r"line 5, column seed: must be a whole .* got 18446744073709551616"):
        with_seeds(rows, "increment", MAX_SEED)
    with pytest.raises(PromptListError, match=r"seed policy must be one of .* increment, got 'random'"):
        with_seeds(rows, "random", 0)


def test_a_file_is_utf_8_with_or_without_a_byte_order_mark(tmp_path):
    text = "prompt,seed\n一个红色的圆,7\n"
    for encoding in ("utf-8", "utf-8-sig"):
        path = tmp_path / "list.CSV"
        path.write_bytes(text.encode(encoding))
        assert load_prompt_list(path) == (Row("一个红色的圆", seed=7, line=2),)


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16"])
def test_another_encoding_is_refused_with_its_line(encoding):
    with pytest.raises(PromptListError, match=r"line [12]: byte 0x\w\w is not UTF-8; save the list as UTF-8 \(not as"):
        decode_list("prompt,seed\n一个红色的圆,7\n".encode(encoding))


def test_a_byte_order_mark_does_not_shift_the_byte_that_is_named():
    with pytest.raises(PromptListError, match="line 2: byte 0xb0 is not UTF-8"):
        decode_list(codecs.BOM_UTF8 + b"a\n\xb0\n")


def test_text_in_utf_16_is_refused_without_a_byte_order_mark_too():
    """ASCII letters with zeros between them are valid UTF-8."""
    with pytest.raises(PromptListError, match=r"^line 1: has a NUL character; save the list as UTF-8 \("):
        decode_list("a red circle\nblue".encode("utf-16-le"))
    with pytest.raises(PromptListError, match=r"^line 3: has a NUL character"):
        decode_list(b"a\n\nb\0\n")


def test_the_ending_says_the_kind():
    kinds = {name: list_kind(name) for name in ("a.txt", "a.CSV", "a.jsonl", "a.ndjson")}
    assert kinds == {"a.txt": "text", "a.CSV": "csv", "a.jsonl": "jsonl", "a.ndjson": "jsonl"}
    with pytest.raises(PromptListError, match=r"'a\.xlsx': a prompt list is one of \.txt, \.csv, \.jsonl, \.ndjson"):
        list_kind("a.xlsx")
    with pytest.raises(PromptListError, match="kind of list must be one of text, csv, jsonl, got 'yaml'"):
        parse_prompt_list("a", "yaml")


def test_a_file_beyond_all_measure_is_not_read(tmp_path):
    path = tmp_path / "list.txt"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(PromptListError, match="16777217 bytes, 16777216 are allowed; split the list"):
        load_prompt_list(path)


@given(text=st.text(), kind=st.sampled_from(["text", "csv", "jsonl"]))
def test_any_text_is_rows_or_one_kind_of_error(text, kind):
    try:
        rows = parse_prompt_list(text, kind)
    except PromptListError as error:
        assert error.problems
    else:
        assert rows
        assert all(row.prompt.strip() and row.line >= 1 for row in rows)
