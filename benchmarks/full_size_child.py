"""One measurement of `load.py` in a process of its own, in which the host is imported and nothing else has run.

    full_size_child.py video FILE [--mode exact|int8] [--tiny]       open, load, two denoising steps
    full_size_child.py load FILE                                     open, load
    full_size_child.py encoder FILE [--tiny]                         load, encode a prompt of 512 tokens
    full_size_child.py pair HIGH LOW [--tiny]                        load two experts, a step of each

Prints one JSON object on stdout: seconds, bytes and whether the results are finite.
"""

import argparse
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the parent too, which says so in one line
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reference_model"))
    import environment

    environment.enter(__file__)

import torch

if os.environ["COMFYUI_DIR"] not in sys.path:
    sys.path.insert(0, os.environ["COMFYUI_DIR"])

from comfy.cli_args import args

args.cpu = True

import comfy.utils
from comfy.model_patcher import ModelPatcher

from wan_gguf.benchmarks.full_size_files import word
from wan_gguf.benchmarks.full_size_memory import Memory, Peak
from wan_gguf.benchmarks.results import Results, say
from wan_gguf.host.models import ATTACHMENT, load_diffusion_model
from wan_gguf.host.operations import PackedWeightMixin
from wan_gguf.host.sampler import sample_latent
from wan_gguf.host.text_encoder import encode_prompt, load_text_encoder
from wan_gguf.loaders.wan import load_wan
from wan_gguf.ops.dispatch import MODES
from wan_gguf.text.weights import WeightedSpan

TEXT_TOKENS = 512
# (channels, latent frames, height, width): 832x480 pixels of TI2V-5B, 390 tokens; 256x256 of A14B, 256 tokens
VIDEO_LATENT, PAIR_LATENT = (48, 1, 30, 52), (16, 1, 32, 32)
RUN = {"seed": 0, "steps": 2, "cfg": 1.0, "shift": 5.0, "solver": "euler", "cfg_mode": "split"}
PARTS = ("load", "video", "encoder", "pair")


class Clock:
    """Seconds between its calls; `cpu_s` is the process's own time between the last two, busy machine or not."""

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self._last = time.perf_counter(), time.process_time()

    def __call__(self) -> float:
        before, self._last = self._last, (time.perf_counter(), time.process_time())
        self.cpu_s = self._last[1] - before[1]
        return self._last[0] - before[0]


def load(options: argparse.Namespace) -> Results:
    """Open the file with the loaders alone, then load it as the node does."""
    return _loaded(options.files[0], options.mode)[1]


def _loaded(path: Path, mode: str) -> tuple[ModelPatcher, Results]:
    before, clock = Memory.now(), Clock()
    checkpoint = load_wan(path)
    found = {"open_s": clock(), "open_cpu_s": clock.cpu_s}
    del checkpoint
    clock()
    with Peak() as peak:
        model = load_diffusion_model(path, mode=mode)
        found |= {"load_s": clock(), "load_cpu_s": clock.cpu_s}
    after = Memory.now()
    found |= {"before_anon": before.anon, "load_anon": after.anon - before.anon, "load_peak_anon": peak.anon}
    found |= {"settings": dict(model.attachments[ATTACHMENT]), **_held(model.model.diffusion_model)}
    say(f"  open {found['open_s']:.3f} s, load {found['load_s']:.3f} s, {found['load_anon'] / 1e6:.1f} MB anonymous")
    return model, found


def _held(model: torch.nn.Module) -> Results:
    """Bytes of parameters that lie in the mapped file, and of those that were copied."""
    packed = {id(m._parameters["weight"]): m.packed.nbytes for m in model.modules() if _is_packed(m)}
    dense = sum(p.nbytes for p in model.parameters() if id(p) not in packed)
    return {"mapped_bytes": sum(packed.values()), "dense_bytes": dense}


def _is_packed(module: torch.nn.Module) -> bool:
    return isinstance(module, PackedWeightMixin) and module.packed is not None


def video(options: argparse.Namespace) -> Results:
    """Two steps of one model."""
    model, found = _loaded(options.files[0], options.mode)
    latent = torch.zeros(1, *((48, 1, 4, 6) if options.tiny else VIDEO_LATENT))
    steps = Steps([model])
    with Peak() as peak:
        sampled = sample_latent(model, *_texts(model), {"samples": latent}, **RUN)
    found |= {"first_step_s": steps.seconds[0], "step_s": steps.seconds[1], "step_cpu_s": steps.cpu_seconds[1]}
    found["cfg"] = RUN["cfg"]
    return found | _after(peak, sampled["samples"])


class Steps:
    """The time from the call, or the step before, to the end of each step's only forward; and the memory then."""

    def __init__(self, models: list[ModelPatcher]):
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.memory: list[Memory] = []
        self.clock = Clock()
        for model in models:
            model.model.diffusion_model.register_forward_hook(self._end)

    def _end(self, *_: object) -> None:
        self.seconds.append(self.clock())
        self.cpu_seconds.append(self.clock.cpu_s)
        self.memory.append(Memory.now())
        say(f"  step {len(self.seconds)}: {self.seconds[-1]:.1f} s")


def _texts(model: ModelPatcher) -> tuple[list, list]:
    """CONDITIONING of 512 random tokens, twice; at cfg 1 the second is not evaluated."""
    width = model.model.diffusion_model.text_dim
    values = torch.randn(1, TEXT_TOKENS, width, generator=torch.Generator().manual_seed(1))
    return ([[values, {}]],) * 2


def _after(peak: Peak, result: torch.Tensor) -> Results:
    memory = Memory.now()
    found = {"peak_anon": peak.anon, "memory_samples": peak.samples}
    found |= {"file": memory.file, "swap": memory.swap, "major_faults": memory.major_faults}
    return found | {"is_finite": bool(torch.isfinite(result).all()), "std": float(result.std())}


def encoder(options: argparse.Namespace) -> Results:
    """The whole text encoder on the longest prompt, one token per word."""
    before, clock = Memory.now(), Clock()
    clip = load_text_encoder(options.files[0])
    found = {
        "load_s": clock(),
        "load_cpu_s": clock.cpu_s,
        "before_anon": before.anon,
        "load_anon": Memory.now().anon - before.anon,
    }
    transformer = clip.cond_stage_model.umt5xxl.transformer
    found |= {"embedding_is_packed": _is_packed(transformer.shared), **_held(transformer)}
    say(f"  load {found['load_s']:.2f} s, {found['load_anon'] / 1e6:.1f} MB anonymous")
    prompt = " ".join(word(i) for i in range(TEXT_TOKENS - 1))
    clock()
    with Peak() as peak:
        values = encode_prompt(clip, [WeightedSpan(prompt, 1.0)])[0][0]
        found |= {"encode_s": clock(), "encode_cpu_s": clock.cpu_s}
    say(f"  encode {found['encode_s']:.1f} s")
    # past the end of the text the host writes zeros
    found["tokens"] = int((values[0].abs().amax(1) > 0).sum())
    return found | _after(peak, values)


def pair(options: argparse.Namespace) -> Results:
    """Two steps, the second below the boundary: the other expert's."""
    loaded = [_loaded(path, options.mode) for path in options.files]
    (high, found), (low, found_low) = loaded
    latent = torch.zeros(1, *((16, 1, 4, 6) if options.tiny else PAIR_LATENT))
    steps, before = Steps([high, low]), Memory.now()
    with Peak() as peak:
        sampled = sample_latent(high, *_texts(high), {"samples": latent}, **RUN, low_noise_model=low)
    found |= {"low_load_s": found_low["load_s"], "low_load_anon": found_low["load_anon"]}
    found |= {
        "high_s": steps.seconds[0],
        "low_s": steps.seconds[1],
        "cpu_s": sum(steps.cpu_seconds),
        "split": sampled[ATTACHMENT]["split"],
    }
    found |= {"file_after_high": steps.memory[0].file, "file_after_low": steps.memory[1].file}
    return found | {"swap_before": before.swap} | _after(peak, sampled["samples"])


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description="One measurement of load.py.")
    made.add_argument("part", choices=PARTS)
    made.add_argument("files", type=Path, nargs="+")
    made.add_argument("--mode", choices=MODES, default="exact")
    made.add_argument("--tiny", action="store_true")
    return made


def main(options: argparse.Namespace) -> None:
    logging.getLogger().setLevel(logging.ERROR)
    comfy.utils.set_progress_bar_enabled(False)
    with torch.inference_mode():
        print(json.dumps({"load": load, "video": video, "encoder": encoder, "pair": pair}[options.part](options)))


if __name__ == "__main__":
    try:
        main(parser().parse_args())
    except FileNotFoundError as error:  # a stopped run has removed its files before this process was ended
        sys.exit(f"error: {error}")
