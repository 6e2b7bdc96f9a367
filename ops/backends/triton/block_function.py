"""What one format of this backend is: a device function from packed bytes to float32 weights."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class BlockFunction:
    """`decode(block, sub, e)`, a @triton.jit function: weight `sub * elems + e` of each block, in float32.

    block  pointers to the blocks' first bytes (uint8), two-byte aligned
    sub    int32, 0 .. subs - 1
    e      int32, 0 .. elems - 1
    ->     float32, bit for bit what `ops.formats` decodes

    The three have any shapes that go together: (B, 1, 1), (1, subs, 1) and (1, 1, elems) decode B whole blocks.

    A block is `subs` runs of `elems` weights. The split is chosen so that one run shares its scale and reads
    neighbouring bytes: then a thread, which holds 8 or 16 neighbouring weights of a run, unpacks one scale for all of
    them and fetches its bytes in one load, as wide as the alignment of the block allows.
    """

    name: str
    subs: int
    elems: int
    decode: Callable[..., object]
