"""Triton reads TRITON_INTERPRET when it is first imported: what is in `interpreted` runs in a process of its own.

`test_interpreted.py` starts that process.
"""

import os

collect_ignore = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["interpreted"]
