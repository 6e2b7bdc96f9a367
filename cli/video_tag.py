"""What 'Wan GGUF Save Video' has written into its own file."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

TAG = "wan_gguf"


def own_tag(file: Path) -> Mapping:
    """Settings and `video`, how it was encoded and decoded; {} of a file without such a tag, or that cannot be read."""
    import av  # not at the top: it takes a while, and few jobs need it

    unreadable = (av.error.FFmpegError, OSError, ValueError, RecursionError)
    with contextlib.suppress(*unreadable), av.open(str(file)) as container:
        tags = {name.lower(): text for name, text in container.metadata.items()}  # Matroska's names are capitals
        tag = json.loads(tags.get(TAG, "null"))
        return tag if isinstance(tag, Mapping) else {}
    return {}
