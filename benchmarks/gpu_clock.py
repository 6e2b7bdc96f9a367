"""Times on a GPU: contenders take turns, each sample starts with a cold L2 cache, and medians are kept.

Between samples 256 MB are written, more than any L2 cache holds; while the GPU does that the processor queues the next
calls, so that a sample does not contain the time to launch its first kernel. A CPU, which the tests have, is timed by
the wall clock.
"""

import statistics
import time
from collections.abc import Callable, Mapping

import torch

FLUSH_BYTES = 256 << 20
LEAST_ROUNDS, MOST_ROUNDS = 3, 15


class Clock:
    """Times calls on one device."""

    def __init__(self, device: torch.device):
        self.device = device
        on_gpu = device.type == "cuda"
        self.flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=device) if on_gpu else None

    def sample(self, call: Callable[[], object]) -> Callable[[], float]:
        """Run the call; what is returned waits for it and says the seconds it took."""
        if self.flush is None:
            start = time.perf_counter()
            call()
            took = time.perf_counter() - start
            return lambda: took
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flush.zero_()
        begin.record()
        call()
        end.record()
        return lambda: (end.synchronize(), begin.elapsed_time(end) / 1e3)[1]

    def medians(self, contenders: Mapping[str, Callable[[], object]], budget_s: float) -> dict[str, float | None]:
        """Median seconds of each contender, interleaved; None for one that does not fit into memory.

        As many rounds as the budget allows, at least LEAST_ROUNDS, after one that is not counted.
        """
        running = {name: call for name, call in contenders.items() if self._fits(call)}
        rounds: dict[str, list[float]] = {name: [] for name in running}
        began = time.perf_counter()
        for done in range(MOST_ROUNDS):
            if done >= LEAST_ROUNDS and time.perf_counter() - began > budget_s:
                break
            for name, call in running.items():
                rounds[name].append(self.sample(call)())
        return {name: statistics.median(rounds[name]) if name in rounds else None for name in contenders}

    def _fits(self, call: Callable[[], object]) -> bool:
        """Warm up: compile the kernels, fill the allocator's cache."""
        try:
            self.sample(call)()
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return False
        return True


def copy_bytes_per_s(clock: Clock, nbytes: int = 512 << 20) -> float:
    """Bytes read plus bytes written per second by a plain device-to-device copy."""
    source, target = (torch.zeros(nbytes, dtype=torch.uint8, device=clock.device) for _ in range(2))
    seconds = clock.medians({"copy": lambda: target.copy_(source)}, budget_s=1.0)["copy"]
    if seconds is None:
        raise SystemExit(f"this GPU has not the {2 * nbytes >> 20} MiB of free memory that the benchmark starts with")
    return 2 * nbytes / seconds
