"""The embedding cache's switch and its limit."""

from dataclasses import dataclass

import pytest

from wan_gguf.host import embedding_cache
from wan_gguf.host.cached_encoding import encode_cached
from wan_gguf.host.embedding_cache import cache_folder, cache_limit_bytes
from wan_gguf.host.text_encoder import open_text_encoder


@dataclass
class Span:
    text: str
    weight: float = 1.0


def state(clip, **settings) -> str:
    return encode_cached(clip, [Span("a red circle")], "positive", **settings)[1]


def test_switched_off_it_reads_and_writes_nothing(umt5_file, monkeypatch):
    clip = open_text_encoder(umt5_file[0])
    assert state(clip, use_cache=False) == "off"
    monkeypatch.setenv(embedding_cache.LIMIT_VARIABLE, "0")
    assert state(clip) == "off"
    assert not cache_folder().exists()


def test_the_limit_is_read_from_the_environment(monkeypatch):
    assert cache_limit_bytes() == 1 << 30
    monkeypatch.setenv(embedding_cache.LIMIT_VARIABLE, "3")
    assert cache_limit_bytes() == 3 << 20
    monkeypatch.setenv(embedding_cache.LIMIT_VARIABLE, "1 GB")
    with pytest.raises(ValueError, match="WAN_GGUF_CACHE_MB: got '1 GB'; a whole number of MB"):
        cache_limit_bytes()
