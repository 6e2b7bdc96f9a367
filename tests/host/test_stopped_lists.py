"""What is said of a list that stops: in the error, in the log, and in the node, where it stays."""

import sys
from types import SimpleNamespace

import comfy.model_management
import pytest
import torch

from wan_gguf.host import progress
from wan_gguf.host.latent_file import latent_path, list_latents
from wan_gguf.host.sampler import sample_rows
from wan_gguf.host.unfinished_rows import NOTHING_KNOWN, kept_if_stopped
from wan_gguf.tests.own_folders import own_folders

SETTINGS = {"seed": 3, "steps": 1, "cfg": 1.0, "shift": 5.0, "solver": "euler", "cfg_mode": "batched"}
OTHER_ERRORS = [
    comfy.model_management.InterruptProcessingException(),
    torch.OutOfMemoryError("no memory"),
    MemoryError("no memory"),
    ValueError("x"),
    KeyboardInterrupt(),
    SystemExit(1),
]


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    """The host's output folder; the input folder beside it."""
    return own_folders(tmp_path, monkeypatch, "output", "input")


@pytest.fixture
def folder(output):
    """Where the rows are put."""
    return output / "wan_gguf" / "unfinished_list"


def stop(error: BaseException, tell, finished: int = 2, n_rows: int = 4) -> None:
    """A list whose first rows are finished when the next one raises the error."""
    with kept_if_stopped(n_rows, NOTHING_KNOWN, tell) as results:
        for number in range(1, finished + 1):
            results.finish(number, {"samples": torch.zeros(1, 16, 1, 2, 2)})
        results.current = finished + 1
        raise error


@pytest.mark.parametrize("error", OTHER_ERRORS, ids=lambda error: type(error).__name__)
def test_every_other_error_passes_as_it_is_and_the_node_and_the_log_tell(folder, caplog, error):
    told = []
    with pytest.raises(type(error)) as caught:
        stop(error, told.append)
    assert caught.value is error
    (text,) = told
    assert text.startswith(f"sampling stopped in row 3 of 4; finished rows 1, 2: saved in {folder}; the files are row_")
    assert text in caplog.text


def test_the_node_tells_what_the_text_of_an_error_does_and_it_stays_short_for_long_lists(folder):
    told = []
    with pytest.raises(RuntimeError) as caught:
        stop(RuntimeError("no"), told.append, finished=25, n_rows=30)
    text = str(caught.value)
    assert text.startswith("row 26 of 30: no; finished rows 1, 2, 3,") and "row_0020_00001_.latent and 5 more;" in text
    assert told == [text.replace("row 26 of 30: no;", "sampling stopped in row 26 of 30;")]
    assert len(list(folder.iterdir())) == 25 and latent_path(list_latents()[0]).parent == folder


def test_a_server_that_ends_does_not_hide_what_stopped_the_list(folder, caplog):
    def closed(_text):
        raise RuntimeError("Event loop is closed")

    with pytest.raises(torch.OutOfMemoryError, match="no memory"):
        stop(torch.OutOfMemoryError("no memory"), closed)
    assert "could not show why it stopped (Event loop is closed)" in caplog.text
    assert f"sampling stopped in row 3 of 4; finished rows 1, 2: saved in {folder}" in caplog.text


def test_the_samplers_node_shows_it_last(high, conditioning, folder, monkeypatch):
    """Though a step was shown a moment ago."""
    sent = []
    instance = SimpleNamespace(send_progress_text=lambda text, node_id: sent.append((text, node_id)))
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=instance)))
    monkeypatch.setattr(progress, "_MIN_INTERVAL_S", 1e9)

    def fail(_args):
        raise torch.OutOfMemoryError("no memory")

    broken = high.clone()
    broken.set_model_sampler_post_cfg_function(fail)
    given = {"positive": conditioning(1), "negative": conditioning(2), **SETTINGS}
    latent = {"samples": torch.zeros(1, 16, 1, 4, 4)}
    with pytest.raises(torch.OutOfMemoryError):
        sample_rows([{**given, "latent": latent, "model": model} for model in (high, broken)], "7")
    text, node = sent[-1]
    assert text.startswith(f"sampling stopped in row 2 of 2; finished row 1: saved in {folder}") and node == "7"
