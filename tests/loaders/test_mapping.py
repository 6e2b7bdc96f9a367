"""The system is told which small parts of a file are read next: those, by whole pages, and never a reason to fail."""

import mmap

import pytest

from wan_gguf.loaders.gguf import open_gguf
from wan_gguf.loaders.gguf.file import SMALL_BYTES
from wan_gguf.loaders.mapping import announce
from wan_gguf.loaders.umt5 import load_umt5
from wan_gguf.loaders.wan import load_wan
from wan_gguf.tests.loaders.build import gguf_bytes
from wan_gguf.tests.loaders.models import TOKENIZER, umt5_tensors, wan_tensors

needs_advice = pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="this system takes no such advice")


class Advised(mmap.mmap):
    """A mapping that writes down what it is told."""

    def madvise(self, option, start, length):
        self.told = [*getattr(self, "told", []), (option, start, length)]
        super().madvise(option, start, length)


def mapped(path):
    with path.open("rb") as file:
        return Advised(file.fileno(), 0, access=mmap.ACCESS_READ)


@needs_advice
def test_advice_begins_at_a_page_and_ends_with_the_bytes(tmp_path):
    path = tmp_path / "pages"
    path.write_bytes(bytes(3 * mmap.PAGESIZE))
    buffer = mapped(path)
    announce(buffer, mmap.PAGESIZE + 7, mmap.PAGESIZE)
    assert buffer.told == [(mmap.MADV_WILLNEED, mmap.PAGESIZE, mmap.PAGESIZE + 7)]


def test_bytes_are_no_error():
    assert announce(b"", 0, 0) is None  # there is no file behind them to announce


@needs_advice
def test_refused_advice_is_no_error(tmp_path, monkeypatch):
    refused = []

    def refuse(self, *advice):
        refused.append(advice)
        raise OSError(22, "refused")

    monkeypatch.setattr(Advised, "madvise", refuse)
    path = tmp_path / "page"
    path.write_bytes(bytes(10))
    announce(mapped(path), 0, 10)
    assert refused == [(mmap.MADV_WILLNEED, 0, 10)]


@pytest.mark.parametrize(
    ("load", "raw", "small", "large"),
    [
        (load_wan, gguf_bytes(wan_tensors(dim=512, ffn=1024)), "blocks.0.norm3.weight", "blocks.0.ffn.0.weight"),
        (load_umt5, gguf_bytes(umt5_tensors(), TOKENIZER), "enc.blk.0.attn_norm.weight", "enc.blk.0.ffn_up.weight"),
    ],
)
def test_loading_announces_the_small_tensors_and_not_the_matrices(tmp_path, monkeypatch, load, raw, small, large):
    path, told = tmp_path / "model.gguf", []
    path.write_bytes(raw)
    monkeypatch.setattr("wan_gguf.loaders.gguf.file.announce", lambda _, offset, nbytes: told.append((offset, nbytes)))
    load(path)
    places = {name: (info.offset, info.nbytes) for name, info in open_gguf(path).tensors.items()}
    assert sorted(told) == sorted(place for place in places.values() if place[1] <= SMALL_BYTES)
    assert places[small] in told and places[large] not in told
