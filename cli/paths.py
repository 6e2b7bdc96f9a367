"""Where the pack and the things it makes for itself lie."""

import os
import sys
from pathlib import Path

# abspath, not resolve: a clone that is linked into ComfyUI/custom_nodes keeps the parent it was called through
ROOT = Path(os.path.abspath(__file__)).parent.parent
CLI = ROOT / "cli"
VENV = ROOT / ".venv"
STATE = ROOT / ".cache"
MODEL_FILES = ROOT / "reference_model" / "files"


def user_cache() -> Path:
    """The per-user cache folder of this platform; WAN_GGUF_CACHE overrides it."""
    override = os.environ.get("WAN_GGUF_CACHE")
    if override:
        return Path(os.path.abspath(os.path.expanduser(override)))
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "wan-gguf"
