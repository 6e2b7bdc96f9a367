"""What the parts of `cpu.py` share: the results they add to, and how they tell what they do."""

import sys
from typing import Any

from wan_gguf.benchmarks.timing import Samples

DENSE = ("bf16", "fp32")  # torch's own layers, the yardsticks
Results = dict[str, Any]  # what json.dumps takes


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def times(samples: Samples) -> Results:
    """Medians, and each contender's time relative to the dense ones: the median of the rounds' ratios."""
    names = list(samples.seconds)
    relative = {
        f"time_vs_{dense}": {name: samples.time_ratio(name, dense) for name in names}
        for dense in DENSE
        if dense in samples.seconds
    }
    rounds = max(map(len, samples.seconds.values()), default=0)
    return {"rounds": rounds, "seconds": {name: samples.median(name) for name in names}, **relative}


def in_words(record: Results) -> str:
    """The medians of a record, in one line."""
    return ", ".join(f"{name} {seconds:.3g} s" for name, seconds in record["seconds"].items())
