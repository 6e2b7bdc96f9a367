"""What JOBS may be: prompt lists on a workflow, folders and lists of workflows; and every way they can be wrong."""

import json
import os
import sys
from pathlib import Path

import pytest

from wan_gguf.cli.batch_jobs import read_jobs, read_workflow, shortened
from wan_gguf.cli.command_batch import SEED_POLICIES
from wan_gguf.cli.errors import CliError
from wan_gguf.cli.workflow import settings_of
from wan_gguf.tests.cli.fake_comfy import workflow
from wan_gguf.text import prompt_list


def write(folder, name: str, text: str):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def read(path, workflow=None, sets=(), policy="from the row", seed=None):
    return read_jobs(path, workflow, sets, policy, seed)


def test_a_csv_goes_into_the_bundled_workflow(tmp_path):
    rows = "prompt,seed,cfg,steps,size,frames,name\na red circle,5,3.5,4,32x48,9,first one\n红色圆形,,,,,,\n"
    jobs = read(write(tmp_path, "list.csv", rows))
    assert [name for name, _ in jobs] == ["first one", "红色圆形"]
    first, second = (settings_of(made) for _, made in jobs)
    wanted = {"prompt": "a red circle", "seed": 5, "cfg": 3.5, "steps": 4, "width": 32, "height": 48, "frames": 9}
    assert {key: first[key] for key in wanted} == wanted
    assert (second["prompt"], second["seed"], second["steps"]) == ("红色圆形", 0, 20)


@pytest.mark.parametrize(
    ("policy", "seed", "seeds"),
    [("from the row", None, [5, 0]), ("from the row", 9, [5, 9]), ("fixed", 3, [3, 3]), ("increment", 7, [7, 8])],
)
def test_seeds_follow_the_policy(tmp_path, policy, seed, seeds):
    path = write(tmp_path, "list.csv", "prompt,seed\na,5\nb,\n")
    jobs = read(path, policy=policy, seed=seed)
    assert [settings_of(made)["seed"] for _, made in jobs] == seeds


def test_the_policies_of_the_command_are_those_of_the_list():
    assert SEED_POLICIES == prompt_list.SEED_POLICIES


def test_set_sends_a_column_to_other_inputs(tmp_path):
    own = {"1": {"class_type": "Own", "inputs": {"words": "", "a": 0, "b": 0}}}
    path = write(tmp_path, "own.json", json.dumps(own))
    jobs = read(write(tmp_path, "list.csv", "prompt,seed\nhello,4\n"), path, ["1.words=prompt", "1.a=seed", "1.b=seed"])
    assert jobs[0][1]["1"]["inputs"] == {"words": "hello", "a": 4, "b": 4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,steps\na,4\nb,many\nc,0\n", r"(?s)line 3, column steps: .*line 4, column steps: .*nothing was queued"),
        ("prompt,style\na,b\n", "line 1: column 'style' is unknown"),
        ("prompt\n", "the list has no prompts"),
    ],
)
def test_bad_rows_are_named_by_line_and_column(tmp_path, text, message):
    with pytest.raises(CliError, match=message):
        read(write(tmp_path, "list.csv", text))


def test_a_column_the_workflow_cannot_take_names_line_and_column(tmp_path):
    path = write(tmp_path, "w.json", json.dumps({"1": {"class_type": "CLIPTextEncode", "inputs": {"text": ""}}}))
    with pytest.raises(CliError, match=r"list.csv: line 3, column cfg: no node of the workflow is known to take it"):
        read(write(tmp_path, "list.csv", "prompt,cfg\na,\nb,2\n"), path, ["1.text=prompt"])


def test_a_folder_of_workflows_is_taken_in_counting_order(tmp_path):
    for number in (10, 2, 1):
        write(tmp_path, f"scene {number}.json", json.dumps(workflow(number)))
    write(tmp_path, "notes.txt", "not a workflow")
    jobs = read(tmp_path)
    assert jobs == [(f"scene {number}", workflow(number)) for number in (1, 2, 10)]


def test_lines_of_workflows_and_a_single_one(tmp_path):
    lines = f"{json.dumps(workflow(1))}\n\n{json.dumps(workflow(2))}\n"
    assert read(write(tmp_path, "w.jsonl", lines)) == [("line-1", workflow(1)), ("line-3", workflow(2))]
    assert read(write(tmp_path, "one.json", json.dumps(workflow(3)))) == [("one", workflow(3))]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_what_unicode_takes_for_a_line_end_is_none_within_json(tmp_path, end):
    """The same lines as in a prompt list."""
    made = workflow(1)
    made["image"]["inputs"]["note"] = "a\u2028b\u2029c\x85d"
    lines = end.join(json.dumps(one, ensure_ascii=False) for one in (workflow(2), made))
    path = tmp_path / "w.jsonl"
    path.write_bytes(lines.encode())
    assert read(path) == [("line-1", workflow(2)), ("line-2", made)]
    rows = end.join(f'{{"prompt": "{text}"}}' for text in ("a", "b\u2028c"))
    assert [row.line for row in prompt_list.parse_prompt_list(rows, "jsonl")] == [1, 2]


def test_half_a_character_is_named_by_node_and_input(tmp_path):
    made = workflow(1)
    made["image"]["inputs"]["words"] = ["deep", {"in": "cut \ud83d"}]
    message = r"s.json: node 'image', input 'words' has half of a character, .*; write it anew"
    with pytest.raises(CliError, match=message):
        read(write(tmp_path, "s.json", json.dumps(made)))
    with pytest.raises(CliError, match="line 2: node 'image', input 'words' has half"):
        read(write(tmp_path, "s.jsonl", f"{json.dumps(workflow(1))}\n{json.dumps(made)}"))
    titled = workflow(1)
    titled["a\ud83d"] = titled.pop("save")
    with pytest.raises(CliError, match=r"t.json: node 'a\\ud83d' has half of a character") as named:
        read(write(tmp_path, "t.json", json.dumps(titled)))
    assert str(named.value).isprintable()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_file_whose_name_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "jobs").mkdir()
    path = os.fsencode(tmp_path / "jobs") + b"/caf\xe9.json"
    with open(path, "w", encoding="utf-8") as file:
        json.dump(workflow(1), file)
    for jobs in (tmp_path / "jobs", Path(os.fsdecode(path))):
        with pytest.raises(CliError, match=r"caf\\xe9\.json: the file's name is not UTF-8; rename it"):
            read(jobs)


def test_a_node_may_be_called_prompt(tmp_path, root):
    text = (root / "cli" / "workflows" / "text_to_video.api.json").read_text(encoding="utf-8")
    line = json.dumps(json.loads(text))
    assert [name for name, _ in read(write(tmp_path, "w.jsonl", f"{line}\n{line}\n"))] == ["line-1", "line-2"]


def test_rows_that_the_prompt_node_would_refuse_are_named_before_anything_is_queued(tmp_path):
    rows = "prompt,negative\na (red:99) circle,\na circle,(blue:nan)\n\u200b,\na (red:1.2) circle,\n"
    with pytest.raises(CliError) as refused:
        read(write(tmp_path, "p.csv", rows))
    lines = str(refused.value).splitlines()
    assert [line.partition(":")[0] for line in lines[1:3]] == ["line 2, column prompt", "line 3, column negative"]
    assert lines[-1] == "nothing was queued"


def test_weights_of_the_hosts_prompt_node_are_its_own(tmp_path):
    text = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["0", 0], "text": ""}}
    stock = write(tmp_path, "w.json", json.dumps({"1": text}))
    jobs = read(write(tmp_path, "p.csv", "prompt\na (red:99) circle\n"), stock, ["1.text=prompt"])
    assert jobs[0][1]["1"]["inputs"]["text"] == "a (red:99) circle"


def test_lines_of_prompts_are_no_workflows(tmp_path):
    jobs = read(write(tmp_path, "p.jsonl", '{"prompt": "a red circle", "seed": 7}\n'))
    assert settings_of(jobs[0][1])["seed"] == 7


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("w.json", '{"nodes": [], "links": []}', r"w.json: this workflow is in the interface's form.*Export \(API\)"),
        ("w.json", "[]", "a workflow in API form is a JSON object of nodes"),
        ("w.json", '{"1": {"inputs": {}}}', "node '1' has no class_type or inputs"),
        ("w.json", "{", "no JSON"),
        ("w.json", "[" * 100_000, "no JSON"),
        ("w.jsonl", '{"1": {"class_type": "A", "inputs": {}}}\n{"1": 2}', "line 2: node '1' has no class_type"),
        ("w.jsonl", '{"1": {"class_type": "A", "inputs": {}}}\n{', "line 2: no JSON .* at character 2"),
        ("w.md", "hello", "a prompt list is one of .txt"),
    ],
)
def test_what_is_no_workflow_is_named(tmp_path, name, text, message):
    with pytest.raises(CliError, match=message):
        read(write(tmp_path, name, text))


def test_missing_and_empty_and_mixed_up_inputs(tmp_path):
    with pytest.raises(CliError, match="there is no such file or folder"):
        read(tmp_path / "none.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CliError, match="holds no workflows"):
        read(tmp_path / "empty")
    whole = write(tmp_path, "w.json", json.dumps(workflow(1)))
    with pytest.raises(CliError, match="holds whole workflows, which --workflow and --set do not change"):
        read(whole, whole)
    with pytest.raises(CliError, match="is not UTF-8"):
        (tmp_path / "gbk.txt").write_bytes("红色".encode("gbk"))
        read(tmp_path / "gbk.txt")


def test_the_bundled_workflow_is_read_like_any(root):
    assert "sampler" in read_workflow(root / "cli" / "workflows" / "text_to_video.api.json")


@pytest.mark.parametrize(
    ("name", "short"),
    [("a/b\\c:d", "a-b-c-d"), ("..", "job"), ("名" * 100, "名" * 60), (" x. ", "x"), ("a\nb", "a-b")],
)
def test_names_become_names_of_folders(name, short):
    assert shortened(name) == short
