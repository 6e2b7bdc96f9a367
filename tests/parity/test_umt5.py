"""The host's T5 with our layers against transformers' UMT5EncoderModel: same weights, tokens and attention mask.

Wan reads 512 positions, zero where the prompt has ended. Measured: 3e-7 to 6e-7.
"""

import pytest
import torch

from wan_gguf.host.text_encoder import load_text_encoder
from wan_gguf.tests.loaders.models import VOCABULARY
from wan_gguf.tests.parity.quantised import relative_error
from wan_gguf.tests.parity.umt5_twins import make_twins, twin_of

TOLERANCE = 1e-4
LENGTH, PAD, END = 512, 0, 1


def padded(tokens: list[int]) -> list[int]:
    return tokens + [PAD] * (LENGTH - len(tokens))


def alone(twin, tokens: list[int]) -> torch.Tensor:
    """What transformers says without padding, in a tenth of the time: (1, tokens, d_model)."""
    return twin(input_ids=torch.tensor([tokens])).last_hidden_state


def ours(clip, tokens: list[int]) -> torch.Tensor:
    """(1, 512, d_model), all weights of the prompt 1.0."""
    return clip.encode_from_tokens({"umt5xxl": [[(token, 1.0) for token in padded(tokens)]]})


def theirs(twin, tokens: list[int]) -> torch.Tensor:
    mask = torch.tensor([[1] * len(tokens) + [0] * (LENGTH - len(tokens))])
    states = twin(input_ids=torch.tensor([padded(tokens)]), attention_mask=mask).last_hidden_state
    return states * mask[:, :, None]


def prompt(length: int) -> list[int]:
    """Tokens of a prompt, the last of which ends it."""
    generator = torch.Generator().manual_seed(length)
    return [*torch.randint(3, VOCABULARY, (length - 1,), generator=generator).tolist(), END]


@pytest.mark.parametrize("quantised", ["F32", "Q8_0"])
def test_short_and_full_prompts(tmp_path, quantised):
    twin = make_twins(tmp_path / "umt5.gguf", quantised)
    clip = load_text_encoder(tmp_path / "umt5.gguf")
    for length in (1, 130, LENGTH):
        found, expected = ours(clip, prompt(length)), theirs(twin, prompt(length))
        assert found.shape == expected.shape == (1, LENGTH, 256)
        assert relative_error(found, expected) <= TOLERANCE
        assert not found[:, length:].any()


def test_english_and_chinese_in_the_shipped_encoder(root):
    """Trained weights, and tokens of both languages."""
    path = root / "reference_model" / "files" / "wan_reference_umt5_f16.gguf"
    clip, twin = load_text_encoder(path), twin_of(path)
    for text in ("a red circle moves left", "红色的圆形向左移动"):
        (tokens,) = clip.tokenize(text)["umt5xxl"]
        tokens = [token for token, _ in tokens]
        tokens = tokens[: tokens.index(END) + 1]
        assert len(tokens) > 3
        assert relative_error(ours(clip, tokens), theirs(twin, tokens)) <= TOLERANCE


def test_a_change_of_any_tensor_is_seen(tmp_path):
    """Or a tensor that both sides ignore would pass: the numbers of each are moved by one place in turn."""
    twin, tokens = make_twins(tmp_path / "umt5.gguf", "F32"), prompt(40)
    found = ours(load_text_encoder(tmp_path / "umt5.gguf"), tokens)[:, : len(tokens)]
    unseen = []
    for name, value in twin.state_dict().items():
        kept = value.clone()
        value.copy_(kept.roll(1))
        if relative_error(found, alone(twin, tokens)) <= TOLERANCE:
            unseen.append(name)
        value.copy_(kept)
    assert relative_error(found, alone(twin, tokens)) <= TOLERANCE
    assert unseen == []
