"""Two dozen prompts do not make a real server larger: its anonymous memory after each, with the reference model.

No prompt and no seed comes twice, so every node but the loaders runs every time. glibc is told to take every tensor's
memory from the system and give it back at once; without that, its arenas alone vary by 20 MB. What lies in reference
cycles, about 1 MB a prompt, waits for Python's collector, which comes every 3 to 6 prompts: the smallest sizes are
those without it. Measured in four runs: 572.7 to 577.7 MB, the smallest of the two windows at most 0.15 MB apart.
"""

import sys
from pathlib import Path

import pytest

from wan_gguf.cli.client import generate
from wan_gguf.cli.server import HostServer
from wan_gguf.cli.workflow import class_types, load_workflow, with_settings

PROMPTS = 24
SETTLED, WINDOW = 4, 8  # compared are the smallest sizes after prompts 5 to 12 and 17 to 24, twelve prompts apart
FRAMES = 5
FRAMES_BYTES = FRAMES * 64 * 64 * 3 * 4  # what the smallest thing worth keeping, the decoded frames, takes: 240 KiB
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="RssAnon is read from /proc/<pid>/status: Linux only"
)


def anonymous_bytes(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def prompt(number):
    """The bundled workflow, tiny; unlike that of every other number."""
    text = f"a red circle moves left, {number}" if number % 2 else f"红色圆形向左移动，{number}"
    return with_settings(load_workflow(), {"steps": 2, "frames": FRAMES, "seed": number, "prompt": text})


def test_two_dozen_prompts_leave_the_server_as_large_as_it_was(host_dir, monkeypatch):
    for name, value in MALLOC.items():
        monkeypatch.setenv(name, value)
    sizes = []
    with HostServer(Path(sys.executable), host_dir, class_types(load_workflow())) as server:
        for number in range(PROMPTS):
            result = generate(server.port, prompt(number), lambda *progress: None)
            assert {"prompt", "sampler", "save_video", "save_frames"} <= result.stage_s.keys()
            sizes.append(anonymous_bytes(server._process.pid))
    early, late = min(sizes[SETTLED : SETTLED + WINDOW]), min(sizes[-WINDOW:])
    # a prompt that left its frames behind would add twelve times their size between the windows
    assert late - early < 5 * FRAMES_BYTES, [size >> 10 for size in sizes]
