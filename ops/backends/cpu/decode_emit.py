"""The code that decodes whole blocks into memory: one kernel per format and output dtype."""

from functools import cache

from .formats import DECODERS
from .job import Emitter, build, job_type
from .machine import Kernel, machine
from .numbers import SIZES, store_floats
from .vectors import Vector

DecodeJob = job_type("DecodeJob", "source", "target")  # items are blocks


@cache
def decode_kernel(format_name: str, dtype: str) -> Kernel:
    """Decodes blocks of a format to a dtype of SIZES."""
    decoder = DECODERS[format_name]

    def body(e: Emitter, first: Vector, stop: Vector) -> None:
        source, target = e.address("source"), e.address("target")
        with e.loop(first, stop) as block:
            values = decoder.emit(source.at(block.index * decoder.bytes))
            store_floats(target.at(block.index * (decoder.elems * SIZES[dtype])), values, dtype)

    name = f"decode_{format_name}_{dtype}"
    return machine().compile(build(name, DecodeJob, body), name)
