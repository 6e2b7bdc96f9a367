"""The small UMT5 encoder (transformers' class, whose weights fit the host's) and its texts as padded batches of ids."""

import sentencepiece
import torch
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel

from host_classes import DEVICE
from training import WORK

WIDTH, LAYERS, EOS = 256, 4, 1


def load_vocabulary() -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=(WORK / "spiece.model").read_bytes())


def build_encoder(pieces: int, seed: int = 0) -> UMT5EncoderModel:
    """4 layers, width 256, 4 heads of 64: UMT5-XXL's architecture at 1/2000 of its size (2.7 M parameters)."""
    torch.manual_seed(seed)
    config = UMT5Config(
        vocab_size=pieces,
        d_model=WIDTH,
        d_kv=64,
        d_ff=512,
        num_layers=LAYERS,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        layer_norm_epsilon=1e-6,
    )
    encoder = UMT5EncoderModel(config)
    for name, parameter in encoder.named_parameters():
        if "relative_attention_bias" in name:  # word order is all that tells "from left to right" from its opposite
            torch.nn.init.normal_(parameter, std=1.5)
    return encoder.to(DEVICE)


def tokenize(vocabulary: sentencepiece.SentencePieceProcessor, texts: list[str]) -> list[list[int]]:
    """Each text as ids, without the end of sentence."""
    return [vocabulary.encode(text) for text in texts]


def to_batch(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Rows of ids -> ids (B, L) ended and padded with 0, and the mask (B, L) of real tokens, the end included."""
    rows = [[*row, EOS] for row in rows]
    length = -(-max(len(row) for row in rows) // 16) * 16  # few distinct shapes: each costs its kernels' set-up once
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows], device=DEVICE)
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=DEVICE)
    return ids, mask
