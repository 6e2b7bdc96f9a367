"""Opening GGUF files, ours beside gguf-py in one process: `python3 benchmarks/open_gguf.py`.

Two files are made in a temporary folder: a vocabulary of UMT5's size (256,384 strings, scores, types), and a TI2V-5B
(825 tensors of its shapes, Q4_K and F32, sparse). Printed: the median of alternating runs, and the ratio.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reference_model"))

import environment

environment.enter(__file__)

import gguf
import numpy as np

from wan_gguf.loaders.gguf import open_gguf
from wan_gguf.loaders.wan_config import wan_shapes

SUMMARY = "opening GGUF files, beside gguf-py"
VOCABULARY, RUNS = 256_384, 3
TI2V_5B = {
    "model_type": "t2v",
    "dim": 3072,
    "ffn_dim": 14336,
    "num_layers": 30,
    "in_dim": 48,
    "out_dim": 48,
    "text_dim": 4096,
    "freq_dim": 256,
    "patch_size": (1, 2, 2),
    "qk_norm": True,
    "cross_attn_norm": True,
}


def write_vocabulary(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "t5encoder")
    writer.add_token_list([f"piece{i}" for i in range(VOCABULARY)])
    writer.add_token_scores([-float(i) for i in range(VOCABULARY)])
    writer.add_token_types([1] * VOCABULARY)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_ti2v_5b(path: Path) -> None:
    """The tensor table as in a real file; the data is a hole of the right size."""
    writer = gguf.GGUFWriter(path, "wan")
    end = 0
    for name, shape in wan_shapes(TI2V_5B, 1280).items():
        packed = len(shape) == 2 and name.startswith("blocks.")
        kind = gguf.GGMLQuantizationType.Q4_K if packed else gguf.GGMLQuantizationType.F32
        elems, size = gguf.GGML_QUANT_SIZES[kind]
        nbytes = int(np.prod(shape)) // elems * size
        stored = (*shape[:-1], shape[-1] // elems * size) if packed else shape
        writer.add_tensor_info(name, stored, np.dtype(np.uint8 if packed else np.float32), nbytes, kind)
        end += -(-nbytes // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        head = -(-path.stat().st_size // 32) * 32
        file.truncate(head + end)


def seconds(call) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for title, write in (("UMT5 vocabulary", write_vocabulary), ("TI2V-5B, 825 tensors", write_ti2v_5b)):
            path = Path(folder) / "file.gguf"
            write(path)
            ours, theirs = [], []
            for _ in range(RUNS):
                ours.append(seconds(lambda path=path: open_gguf(path)))
                theirs.append(seconds(lambda path=path: gguf.GGUFReader(path)))
            a, b = statistics.median(ours), statistics.median(theirs)
            print(f"{title}: ours {1000 * a:.1f} ms, gguf-py {1000 * b:.0f} ms, {b / a:.0f} times faster", flush=True)
            path.unlink()


if __name__ == "__main__":
    main()
