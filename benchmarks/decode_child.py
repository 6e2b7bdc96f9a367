"""One decode for `decode.py`, in this process: `python3 benchmarks/decode_child.py JSON`; prints one JSON object."""

import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reference_model"))
    import environment

    environment.enter(__file__)

import torch

if os.environ["COMFYUI_DIR"] not in sys.path:
    sys.path.insert(0, os.environ["COMFYUI_DIR"])
from comfy.cli_args import args

args.cpu = not torch.cuda.is_available()  # before the host's modules look for a device
import comfy.sd
import comfy.utils

from wan_gguf.benchmarks import memory
from wan_gguf.benchmarks.decode_suite import FILE, HOST
from wan_gguf.benchmarks.full_size_memory import Memory
from wan_gguf.benchmarks.results import Results
from wan_gguf.host.stream_decode import stream_frames
from wan_gguf.host.video_codecs import video_format
from wan_gguf.host.video_file import VideoWriter, to_8_bits


def measure(request: Results) -> Results:
    """Decode once to warm up, then once measured."""
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(request["vae"]))
    stride = int(vae.spacial_compression_decode())
    shape = (1, vae.latent_channels, (request["frames"] - 1) // 4 + 1, *[request["size"] // stride] * 2)
    samples = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), tempfile.TemporaryDirectory(prefix="wan-gguf-") as folder:
        _decode(vae, samples[:, :, :3], request["way"], Path(folder, "warm"))
        found: Results = {}
        before = Memory.now().anon

        def run() -> None:
            begin = time.perf_counter()
            found["frames_sha256"] = _decode(vae, samples, request["way"], Path(folder, "video"))
            found["seconds"] = time.perf_counter() - begin

        found["peak_bytes"] = memory.peak_bytes(run)  # beyond what is there before
        found["process_bytes"] = found["peak_bytes"] + before
    return {"way": request["way"], "frames": request["frames"], **found}


def _decode(vae: comfy.sd.VAE, samples: torch.Tensor, way: str, path: Path) -> str:
    """SHA-256 of the frames in 8 bits."""
    if way == FILE:
        video, side = video_format("h264", -1, "auto", 0, samples.shape[1]), int(vae.spacial_compression_decode())
        size = samples.shape[-1] * side, samples.shape[-2] * side
        with VideoWriter(path, video, *size, {}) as writer:
            for piece in stream_frames(vae, samples):
                writer.write(piece)
            return writer.finish()
    digest = hashlib.sha256()
    pieces = vae.decode(samples) if way == HOST else stream_frames(vae, samples)
    for piece in pieces:
        for frame in piece:
            digest.update(to_8_bits(frame).data)
    return digest.hexdigest()


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
