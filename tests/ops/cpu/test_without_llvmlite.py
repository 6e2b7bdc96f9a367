"""An environment without llvmlite: the pack works, by the reference, and says why."""

import subprocess
import sys

SCRIPT = """
import importlib.util, sys
sys.modules["llvmlite"] = None
root = sys.argv[1]
sys.path[:] = [entry for entry in sys.path if entry not in ("", root)]
spec = importlib.util.spec_from_file_location("wan_gguf", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["wan_gguf"] = importlib.util.module_from_spec(spec)
import torch
from wan_gguf.ops.explain import typical_linear
print(typical_linear("Q4_K", torch.device("cpu"), torch.float32, "exact").explain())
"""


def test_the_reference_takes_over_and_the_reason_is_told(root, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(root)], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.startswith("reference.linear (")
    assert "cpu.linear needs the package llvmlite" in done.stdout
