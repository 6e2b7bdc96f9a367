"""A conversion's memory, in a process of its own: it depends neither on the file's size nor on the largest tensor's."""

import json
import subprocess
import sys

import pytest

from wan_gguf.convert.container import PlannedTensor, safetensors_layout
from wan_gguf.tests.loaders.models import shapes_of, wan_tensors

CONVERT = """
import importlib.util, sys
root = sys.argv[1]
spec = importlib.util.spec_from_file_location("wan_gguf", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["wan_gguf"] = importlib.util.module_from_spec(spec)
from wan_gguf.cli import command_convert, main
command_convert.prepare, command_convert.is_active = lambda dev: None, lambda: True
sys.exit(main.main(sys.argv[2:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the peak is not reported on Windows")
def test_the_peak_is_a_few_pieces(tmp_path, root):
    """A block of TI2V-5B as a hole of 0.6 GB, the largest tensor 176 MB."""
    shapes = shapes_of(wan_tensors(3072, 14336, 48, 48, 1, text_dim=64))
    layout = safetensors_layout([PlannedTensor(name, name, "F32", shape) for name, shape in shapes.items()], {})
    source = tmp_path / "wan.safetensors"
    source.write_bytes(layout.head)
    with source.open("r+b") as file:
        file.truncate(layout.nbytes)
    arguments = ["convert", str(source), str(tmp_path / "out.gguf"), "--type", "Q8_0", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", CONVERT, str(root), *arguments], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["source_bytes"] > 600e6
    assert said["peak_rss_bytes"] < 250e6
