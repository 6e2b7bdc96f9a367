"""What the fused product needs beside the weights in mode int8: scales, and the columns kept apart."""

import torch
from torch.nn.functional import pad

from ...int8 import OUTLIERS, scale_of
from .gemm_emit import INT8_FIELDS
from .peaks import token_peaks
from .tile import K_BLOCK, PANEL_ROWS, Tile


class Int8Operands:
    """For some tokens x (m, k), `columns` (OUTLIERS,) of them kept apart; the tensors live as long as this does."""

    def __init__(self, x: torch.Tensor, columns: torch.Tensor, tile: Tile, tiles: int, w_scales: torch.Tensor):
        m, k = x.shape
        missing = tiles * tile.tokens - m
        workers = torch.get_num_threads()
        self.keep = torch.full((k,), -1, dtype=torch.int32).index_fill_(0, columns, 0)
        x_scales = scale_of(token_peaks(x, self.keep))
        self.x_reciprocals = x_scales.reciprocal()
        self.x_scales = pad(x_scales, (0, missing))
        self.x_outliers = pad(x[:, columns].t().float(), (0, missing)).contiguous()
        self.x_offsets = torch.empty(tiles * tile.tokens, dtype=torch.int32)
        self.columns = columns
        self.column_starts = torch.searchsorted(columns, torch.arange(k // K_BLOCK + 1) * K_BLOCK)
        self.w_scales = w_scales.contiguous()
        self.w_reciprocals = self.w_scales.reciprocal()
        self.w_outliers = torch.empty(workers, PANEL_ROWS, OUTLIERS)
        self.decoded = torch.empty(workers, K_BLOCK)

    def addresses(self) -> dict[str, int]:
        """The job's fields."""
        return {name: getattr(self, name).data_ptr() for name in INT8_FIELDS}
