"""Whether the files that a queued workflow puts together belong together, read from its graph and the files' headers.

Whatever is not understood gives no opinion: other loaders, linked file names, nodes that other nodes make. The sampler
and the decoder check what they are given once more.
"""

import logging

from comfy_api.latest import io

from .graph_experts import expert_hints, expert_problems
from .graph_files import Headers
from .graph_loras import lora_problems
from .graph_text import text_problems
from .graph_vae import vae_problems

_CHECKS = (expert_problems, vae_problems, text_problems, lora_problems)


def refuse_wrong_files(hidden: io.HiddenHolder | None) -> None:
    """Raise ValueError if this node is part of making a video from files that do not belong together.

    `hidden` is the node's `cls.hidden` with prompt and unique_id; None, outside the host, means no graph. Reads headers
    only.
    """
    if hidden is None:
        return
    headers = Headers()
    for check in _CHECKS:
        for problem in check(hidden.prompt, hidden.unique_id, headers):
            raise ValueError(problem)


def log_hints(hidden: io.HiddenHolder | None) -> None:
    """Warn in the log of what is allowed but seldom meant."""
    if hidden is not None:
        for hint in dict.fromkeys(expert_hints(hidden.prompt, hidden.unique_id, Headers())):
            logging.warning("%s", hint)


refuse_wrong_vae = refuse_wrong_files  # as the nodes call it
