"""What the three training stages share: averaged weights, the learning-rate schedule, checkpoints, a log line."""

import math
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from host_classes import DEVICE

WORK = Path(__file__).parent / "work"  # checkpoints, latents and logs; not committed


class Average:
    """Exponential moving average of a model's parameters, with the usual warm-up of the decay."""

    def __init__(self, model: torch.nn.Module, decay: float):
        self.decay, self.steps = decay, 0
        self.weights = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: torch.nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        current = model.state_dict()
        names = list(self.weights)
        torch._foreach_lerp_([self.weights[n] for n in names], [current[n] for n in names], 1 - decay)


def learning_rate(step: int, steps: int, peak: float, final: float, warmup: int, hold: float) -> float:
    """Linear warm-up, `hold` of the run at the peak, then half a cosine down to `final`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    begin = hold * steps
    if step < begin:
        return peak
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * (step - begin) / max(steps - begin, 1)))


def autocast() -> torch.autocast:
    """bf16 where the device multiplies it natively; a CPU without AVX512 is 20 times faster in float32."""
    native = DEVICE.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=native)


def save(name: str, weights: dict[str, torch.Tensor]) -> Path:
    """Write WORK/name.safetensors in one rename."""
    WORK.mkdir(exist_ok=True)
    path = WORK / f"{name}.safetensors"
    part = path.with_suffix(".part")
    save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, part)
    part.replace(path)
    return path


def load(name: str) -> dict[str, torch.Tensor]:
    return load_file(WORK / f"{name}.safetensors", device=str(DEVICE))


class Log:
    """Prints one line per report, with the seconds per step since the last."""

    def __init__(self):
        self.time, self.step = time.perf_counter(), 0

    def report(self, step: int, **values: float) -> None:
        now = time.perf_counter()
        pace = (now - self.time) / max(step - self.step, 1)
        self.time, self.step = now, step
        shown = "  ".join(f"{k} {v:.4g}" for k, v in values.items())
        print(f"step {step:6d}  {pace:.3f} s/step  {shown}", flush=True)
