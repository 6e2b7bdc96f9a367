"""IQ1_S: groups of 8 weights on a grid of 2048 points, a 3-bit scale per 32 weights (1.5625 bits per weight).

Super-block of 256 weights, 50 bytes (`block_iq1_s` in ggml-common.h):

    bytes    field  type      meaning
    0..1     d      fp16      scale of the scales
    2..33    qs     32 x u8   low eight bits of the grid index of group g
    34..49   qh     8 x u16   of sub-block s: bits 3l .. 3l + 2 are the high bits of the index of group 4s + l,
                              bits 12..14 the scale sc, bit 15 the sign of delta

    w[8g + j] = d * (2 * sc + 1) * (GRID[index][j] + delta)     with delta = 1/8, or -1/8 where bit 15 is set
"""

import torch

from ..block_format import BlockFormat
from .bits import fields, half_floats, lookup
from .iq_grids import grid

DELTA = 0.125  # `IQ1S_DELTA`

# `iq1s_grid` in ggml-common.h (IQ1_M uses it too)
GRID = grid(
    "55251485a0024251084531a886208aa21a082a201485501482204445251505a00282208818000882a0032aa088bbaa0a90aa0b0022000aaa"
    "8c82a0084051084521888050144251088a300898a008802a0845211485204842550845012cc2a0208a26002a24a8aaa208e2af0808282800"
    "a0024228aa2820a880200a9b08b9baa820caae89a2aeaa3a7cebeababb820eb822bacad30e920222002220a88aba0a820208002a4ae0a23b"
    "22202ba200814081aa8a280822011485501582200945215485a0080223a83a2084822054425108a22008955014022a08b8a88280a0480220"
    "0882a268a20228ab2a0885200882300845400045211485a00042510045012982008a822a08a130140550148228084521148520020220aa2a"
    "002012b18aae28a8baa1aaa87000820a0802282202840082004880a0eab02aaac2208bba22eadaa78b8b6ea892b02aaa728b8a440c2a2048"
    "8440288a2a08aa20c8cca222a2af9aa0e8a8020002002aa888002080a08ba2a228baa08082320ababeb8bafeeba2a02ba2088a0a28eaa200"
    "a132020cfaa4eadeef2ba82e8dbe7eebfaf77fbfe67dbade69fb27ffbf26fa12e9e18a2210aabe0e84aa08b2a80b82aeffba24e983800462"
    "2c68f2a80aa42b00022a0808e2aa120002822a0aa620c9828990822800a2008c801300820808006c8aaaaabb02a6be8aa0ca02806b972ed0"
    "b2e91082102eaade2815d1a504000a82008a82200801a12082aa39ba223284a0098018008aa2620281144451004521ac825014425108aa20"
    "28aa870a122a0845211405a00842510845012002a040a22200880008a2086a8a6eb8aaaa8000200a82e2c82221084450144251098a201585"
    "5014860a08aa2a2a80000a4251084521a8005014425108e22088820a18822a08aaa2aa8ab08b020a2aaa20288280aa0a28082800a9880222"
    "a0be0b28b8088aba4bb2aeffbaa4f8aeaa20522868b6a030e6800a022808226a6280200a02aaaa2baaeaa2a9a0a208081020a08a2200820e"
    "0045211485a00a4051084521a906004aaa0208a500100d44148228084521140500088282acf220000000aa0a280aba20eaa2020082480928"
    "e91400114b4551004501a802501442510888240888280a40080045011405a0024051084501",
    levels=(-1, 0, 1),
    length=8,
)


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n_blocks, 50) uint8 -> (n_blocks, 256) dtype."""
    n_blocks = blocks.shape[0]
    qh = blocks[:, 34:50].view(torch.int16)  # (n_blocks, 8)
    scale = half_floats(blocks, 0) * (((qh >> 12) & 7) * 2 + 1)  # (n_blocks, 8)
    delta = torch.where(qh < 0, -DELTA, DELTA).to(torch.float32)  # (n_blocks, 8)
    index = blocks[:, 2:34] | (fields(qh, width=3, count=4) << 8)  # (n_blocks, 32) int16
    points = lookup(GRID, index).view(n_blocks, 8, 32) + delta.unsqueeze(-1)
    return points.mul_(scale.unsqueeze(-1)).view(n_blocks, 256).to(dtype)


FORMAT = BlockFormat("IQ1_S", ggml_type=19, block_elems=256, block_bytes=50, decode=decode)
