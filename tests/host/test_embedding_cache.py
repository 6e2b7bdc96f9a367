"""The embedding cache: a hit is the fresh result bit for bit and touches no encoder; a faulty entry is a miss."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import comfy.model_management
import comfy.sd
import pytest
import safetensors.torch
import torch

from wan_gguf.host import cached_encoding, file_hash, text_encoder
from wan_gguf.host.cached_encoding import encode_cached
from wan_gguf.host.embedding_cache import cache_folder, from_bytes, to_bytes
from wan_gguf.host.text_encoder import encode_prompt, load_text_encoder, open_text_encoder

ENGLISH, CHINESE = "a red circle moves left", "红色的圆形向左移动，在白色背景上"
OLD_S = 1_000_000_000  # a time of change long ago


@dataclass
class Span:
    text: str
    weight: float = 1.0


PROMPTS = {
    "english": [Span(ENGLISH)],
    "chinese": [Span(CHINESE)],
    "weighted": [Span("a "), Span("red circle", 1.5), Span(" moves left")],
    "empty": [],
    "over 512 tokens": [Span("red circle " * 400)],
}


@pytest.fixture
def encoder(umt5_file, tmp_path, monkeypatch) -> Path:
    """A copy of the tiny encoder, for tests that change the file. Its hash is remembered although it is that new."""
    path = tmp_path / "umt5.gguf"
    shutil.copy(umt5_file[0], path)
    os.utime(path, (OLD_S, OLD_S))
    monkeypatch.setattr(file_hash, "SETTLED_NS", -1)
    return path


@pytest.fixture
def no_encoder(monkeypatch):
    """From its call on, building, loading or running an encoder is an error."""

    def forbid():
        def refuse(*_args, **_kwargs):
            raise AssertionError("a hit must not touch the encoder")

        monkeypatch.setattr(text_encoder, "load_umt5", refuse)
        monkeypatch.setattr(comfy.model_management, "load_models_gpu", refuse)
        monkeypatch.setattr(comfy.sd.CLIP, "encode_from_tokens", refuse)

    return forbid


def bits(conditioning: list) -> torch.Tensor:
    """The embedding as integers: tells -0.0 from 0.0."""
    return conditioning[0][0].view(torch.int32)


def state(clip, text=ENGLISH, **settings) -> str:
    return encode_cached(clip, [Span(text)], "positive", **settings)[1]


def entries() -> list[Path]:
    return sorted((cache_folder() / "embeddings").iterdir())


def entry() -> Path:
    (found,) = entries()
    return found


@pytest.mark.parametrize("spans", PROMPTS.values(), ids=PROMPTS.keys())
def test_a_hit_equals_a_fresh_encoding_bit_for_bit(umt5_file, spans, no_encoder):
    fresh = encode_prompt(load_text_encoder(umt5_file[0]), spans)
    missed, first = encode_cached(open_text_encoder(umt5_file[0]), spans, "positive")
    no_encoder()
    hit, second = encode_cached(open_text_encoder(umt5_file[0]), spans, "positive")
    assert (first, second) == ("miss", "hit")
    assert torch.equal(bits(missed), bits(fresh))
    assert torch.equal(bits(hit), bits(fresh))
    assert len(hit) == len(fresh) == 1
    assert hit[0][1] == fresh[0][1]
    assert (hit[0][0].dtype, hit[0][0].shape, hit[0][0].device) == (torch.float32, (1, 512, 64), fresh[0][0].device)


def test_zeros_after_the_prompt_keep_their_sign(umt5_file):
    """The host leaves -0.0 there; without them the test above could not fail over it."""
    cond = encode_prompt(load_text_encoder(umt5_file[0]), [Span(ENGLISH)])[0][0]
    assert not cond[:, 20:].any()
    assert torch.signbit(cond[:, 20:]).any()


def test_a_hit_needs_no_encoder_also_when_the_clip_was_built_before(umt5_file, no_encoder):
    clip = open_text_encoder(umt5_file[0])
    assert state(clip) == "miss"
    comfy.model_management.unload_all_models()
    no_encoder()
    assert state(clip) == "hit"


def test_what_it_did_is_in_the_log_for_each_prompt(umt5_file, caplog):
    clip = open_text_encoder(umt5_file[0])
    with caplog.at_level("INFO"):
        encode_cached(clip, [Span(ENGLISH)], "positive")
        encode_cached(clip, [Span(ENGLISH)], "negative")
    said = [message for message in caplog.messages if "embedding cache" in message]
    assert said == [
        "Wan GGUF: positive prompt, embedding cache: miss",
        "Wan GGUF: negative prompt, embedding cache: hit",
    ]


def test_text_and_weights_are_part_of_the_address(umt5_file):
    clip = open_text_encoder(umt5_file[0])
    prompts = [[Span(ENGLISH)], [Span(CHINESE)], [Span(ENGLISH, 1.5)], [Span("a red"), Span(" circle moves left", 1.5)]]
    assert [encode_cached(clip, spans, "positive")[1] for spans in prompts * 2] == ["miss"] * 4 + ["hit"] * 4


def test_the_prompt_is_not_stored(umt5_file):
    state(open_text_encoder(umt5_file[0]), "a secret red circle")
    files = [path for path in cache_folder().rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if b"secret" in path.name.encode() + path.read_bytes()] == []


def test_another_file_of_the_same_name_is_a_miss(encoder):
    assert [state(open_text_encoder(encoder)) for _ in range(2)] == ["miss", "hit"]
    content = bytearray(encoder.read_bytes())
    content[-100] ^= 1  # in a tensor
    encoder.write_bytes(content)
    os.utime(encoder, (OLD_S, OLD_S))  # size and time of change are the same
    assert state(open_text_encoder(encoder)) == "miss"


def test_the_same_content_at_another_time_or_place_is_a_hit(encoder, tmp_path):
    assert state(open_text_encoder(encoder)) == "miss"
    os.utime(encoder, (OLD_S + 1, OLD_S + 1))
    assert state(open_text_encoder(encoder)) == "hit"
    assert state(open_text_encoder(shutil.copy(encoder, tmp_path / "other name.gguf"))) == "hit"


def test_a_file_changed_after_it_was_chosen_is_not_cached(encoder):
    clip = open_text_encoder(encoder)
    os.utime(encoder, (OLD_S + 1, OLD_S + 1))
    assert state(clip) == "not cached: umt5.gguf was changed after it was chosen; queue the prompt again"
    assert not cache_folder().exists()


def test_a_file_changed_while_encoding_is_not_stored(encoder, monkeypatch):
    def encode_and_change(clip, spans):
        os.utime(encoder, (OLD_S + 1, OLD_S + 1))
        return encode_prompt(clip, spans)

    monkeypatch.setattr(cached_encoding, "encode_prompt", encode_and_change)
    assert state(open_text_encoder(encoder)).startswith("miss, not stored: umt5.gguf was changed")
    assert not (cache_folder() / "embeddings").exists()


@pytest.mark.parametrize("condition", ["threads", "code", "device", "attention", "kernels"])
def test_other_conditions_of_computing_are_a_miss(umt5_file, monkeypatch, condition):
    assert state(open_text_encoder(umt5_file[0])) == "miss"
    real = cached_encoding.encoding_conditions
    assert condition in real(torch.device("cpu"))
    monkeypatch.setattr(cached_encoding, "encoding_conditions", lambda device: real(device) | {condition: "other"})
    assert state(open_text_encoder(umt5_file[0])) == "miss"
    monkeypatch.undo()


def garbled(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


def other_metadata(data: bytes) -> bytes:
    """A whole safetensors file with other numbers under the metadata of the right ones."""
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    tensors = safetensors.torch.load(data)
    return safetensors.torch.save({"rows": tensors["rows"] + 1, "signs": tensors["signs"]}, metadata)


def of_another_prompt(data: bytes) -> bytes:
    return to_bytes("0" * 64, torch.ones(1, 512, 64))


def nested(data: bytes) -> bytes:
    text = b"[" * 100_000
    return len(text).to_bytes(8, "little") + text


FAULTS = {
    "empty": lambda data: b"",
    "header only": lambda data: data[:300],
    "cut short": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "one bit": garbled,
    "text": lambda data: b"not an embedding",
    "huge header": lambda data: b"\xff" * 8 + data[8:],
    "deep header": nested,
    "other numbers": other_metadata,
    "another prompt's": of_another_prompt,
    "no metadata": lambda data: safetensors.torch.save(safetensors.torch.load(data)),
    "other tensors": lambda data: safetensors.torch.save({"rows": torch.zeros(())}, {"length": "512"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_entry_is_a_miss_and_replaced(umt5_file, fault):
    clip = open_text_encoder(umt5_file[0])
    fresh, _ = encode_cached(clip, [Span(ENGLISH)], "positive")
    good = entry().read_bytes()
    entry().write_bytes(FAULTS[fault](good))
    again, said = encode_cached(clip, [Span(ENGLISH)], "positive")
    assert said == "miss"
    assert torch.equal(bits(again), bits(fresh))
    assert from_bytes(entry().stem, entry().read_bytes()) is not None
    assert state(clip) == "hit"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_a_link_is_not_followed_and_not_written_through(umt5_file, tmp_path):
    clip = open_text_encoder(umt5_file[0])
    assert state(clip) == "miss"
    link, target = entry(), tmp_path / "target"
    shutil.move(link, target)
    before = target.read_bytes()
    link.symlink_to(target)
    assert state(clip) == "miss"
    assert not entry().is_symlink()
    assert target.read_bytes() == before
    assert state(clip) == "hit"


@pytest.mark.parametrize("fault", ["empty", "garbled", "another file's"])
def test_a_faulty_remembered_hash_is_computed_again(encoder, umt5_file, fault):
    assert state(open_text_encoder(encoder)) == "miss"
    (remembered,) = (cache_folder() / "file_hashes").iterdir()
    good = remembered.read_bytes()
    wrong = {"empty": b"", "garbled": good.replace(good[:4], b"0000", 1), "another file's": b"0" * 64 + good[64:]}
    remembered.write_bytes(wrong[fault])
    assert state(open_text_encoder(encoder)) == "hit"  # a wrong hash would be a miss
    assert remembered.read_bytes() == good


def test_the_hash_of_a_file_that_was_just_written_is_not_remembered(encoder, monkeypatch):
    """It could be written again within one tick of the file system's clock."""
    monkeypatch.setattr(file_hash, "SETTLED_NS", 3600 * 10**9)
    assert [state(open_text_encoder(encoder)) for _ in range(2)] == ["miss", "hit"]
    assert not (cache_folder() / "file_hashes").exists()


def test_a_known_file_is_not_read_again(encoder, no_encoder, monkeypatch):
    state(open_text_encoder(encoder))
    no_encoder()
    monkeypatch.setattr(file_hash, "_hash", lambda *_: pytest.fail("the file was read"))
    assert state(open_text_encoder(encoder)) == "hit"


def test_hashing_stops_when_the_run_is_interrupted(encoder):
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        state(open_text_encoder(encoder))
    assert state(open_text_encoder(encoder)) == "miss"  # the host takes the request back by raising


def test_more_than_the_encoder_is_known_to_give_is_not_stored(umt5_file, monkeypatch):
    given = [[torch.full((1, 2, 4), torch.nan), {"pooled_output": None}]]
    monkeypatch.setattr(cached_encoding, "encode_prompt", lambda clip, spans: given)
    clip = open_text_encoder(umt5_file[0])
    assert state(clip) == "miss, not stored: the embedding has infinite or undefined values"
    given[0][1]["attention_mask"] = torch.ones(1)
    assert state(clip) == "miss, not stored: the encoder gave more than an embedding (attention_mask, pooled_output)"
    assert not (cache_folder() / "embeddings").exists()


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_cache(umt5_file, user_folder, caplog):
    (user_folder / "__wan_gguf").write_text("a file where the folder should be")
    clip = open_text_encoder(umt5_file[0])
    fresh = encode_prompt(clip, [Span(ENGLISH)])
    for _ in range(2):
        found, said = encode_cached(clip, [Span(ENGLISH)], "positive")
        assert said.startswith("miss, not stored: ")
        assert torch.equal(bits(found), bits(fresh))
    said = [message for message in caplog.messages if "embeddings cannot be written" in message]
    assert len(said) == 1


PROGRAM = """
import importlib.util, sys, torch
host, pack, user_folder, encoder, threads, *prompts = sys.argv[1:]
sys.path.insert(0, host)
spec = importlib.util.spec_from_file_location("wan_gguf", pack + "/__init__.py", submodule_search_locations=[pack])
module = sys.modules["wan_gguf"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from comfy.cli_args import args
args.cpu = not torch.cuda.is_available()
import folder_paths
folder_paths.set_user_directory(user_folder)
from wan_gguf.host.cached_encoding import encode_cached
from wan_gguf.host.text_encoder import open_text_encoder
from wan_gguf.text.weights import WeightedSpan
torch.set_num_threads(int(threads))
with torch.inference_mode():
    for text in prompts:
        cond, state = encode_cached(open_text_encoder(encoder), [WeightedSpan(text, 1.0)], "positive")
        print("STATE", state, cond[0][0].view(torch.int32).sum(dtype=torch.int64).item(), flush=True)
"""


def test_other_processes_share_it(encoder, root, host_dir, user_folder):
    """Two that write at once, and this one, which hits what they stored."""
    words = [sys.executable, "-c", PROGRAM, str(host_dir), str(root), str(user_folder), str(encoder)]
    words += [str(torch.get_num_threads()), ENGLISH, CHINESE, "red"]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, encoding="utf-8") for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    answers = [[line.split()[1:] for line in text.splitlines() if line.startswith("STATE")] for text in said]
    assert [len(answer) for answer in answers] == [3, 3]
    assert {answer[0][0] for answer in answers} <= {"hit", "miss"}
    for text, *sums in zip([ENGLISH, CHINESE, "red"], *[[s for _, s in answer] for answer in answers], strict=True):
        found, what = encode_cached(open_text_encoder(encoder), [Span(text)], "positive")
        assert what == "hit"
        assert {str(bits(found).sum(dtype=torch.int64).item())} == set(sums)
