"""The floors of the design, read from the imports: who may import whom, and what no runtime file may do.

The rules are the tables below; `reference_model` and `benchmarks` are development recipes outside the floors.
"""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FLOORS = {
    "cli": {"convert", "loaders", "ops", "text"},
    "nodes": {"convert", "host", "loaders", "text", "sampling", "ops"},
    "host": {"loaders", "sampling", "ops"},
    "convert": {"loaders", "ops"},
    "loaders": {"ops"},
    "sampling": {"ops"},
    "text": set(),
    "ops": set(),
    "__init__.py": {"nodes"},
}
HOST_IMPORTS = {  # top-level names of the host -> the floors that may import them
    "comfy": {"host"},
    "folder_paths": {"host"},
    "latent_preview": {"host"},
    "comfy_api": {"nodes"},
}
HOST_ONLY_NAMES = {"nodes", "server", "execution", "comfy_execution", "comfy_extras", "comfy_config", "node_helpers"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "torch.load",
    "pickle.load",
    "pickle.loads",
}
FORBIDDEN_IMPORTS = {"pickle", "marshal", "shelve", "subprocess", "urllib", "requests", "socket", "http"}
FREE_TO_IMPORT_ANYTHING = {"cli"}  # starts processes and fetches the host; still bound to the floors
MAX_LINES = 350


def floor_of(path: Path) -> str:
    """The first part of the path below the root."""
    return path.relative_to(ROOT).parts[0]


def pack_files() -> list[Path]:
    """The files the host or the command line runs."""
    files = [*ROOT.glob("*.py"), *(file for floor in FLOORS for file in (ROOT / floor).rglob("*.py"))]
    return sorted(file for file in files if "__pycache__" not in file.parts)


def all_files() -> list[Path]:
    """Every source file of the repository, tests and recipes included."""
    folders = [folder for folder in ROOT.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    files = [*ROOT.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    return sorted(path for path in files if "__pycache__" not in path.parts)


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or attribute chain, else an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def imported_floor(file: Path, node: ast.ImportFrom) -> list[str]:
    """The first path part(s), below the pack's root, of what a relative import reaches."""
    package = file.relative_to(ROOT).parent.parts
    if node.level > len(package) + 1:
        return ["<outside the pack>"]
    base = package[: len(package) + 1 - node.level]
    parts = (*base, *(node.module.split(".") if node.module else ()))
    return [parts[0]] if parts else [alias.name for alias in node.names]


def layer_faults(file: Path, tree: ast.AST) -> list[str]:
    """Every import of the file that its floor does not allow, in words."""
    floor, faults = floor_of(file), []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            targets = imported_floor(file, node)
            allowed = FLOORS[floor] | {floor}
            faults += [f"{floor} must not import {target}" for target in targets if target not in allowed]
        elif isinstance(node, ast.ImportFrom | ast.Import):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            faults += [fault for module in modules if (fault := absolute_fault(floor, module))]
    return faults


def absolute_fault(floor: str, module: str) -> str | None:
    """Why the floor must not import the module by its absolute name, or None."""
    top, *rest = module.split(".")
    if floor == "cli" and top == "wan_gguf":  # a program of its own: it registers the pack under that name
        return f"cli must not import {module}" if rest and rest[0] not in FLOORS["cli"] else None
    if top in HOST_IMPORTS and floor not in HOST_IMPORTS[top]:
        return f"{floor} must not import {module}"
    if top == "comfy_api" and rest[:1] != ["latest"]:
        return f"import comfy_api.latest, not {module}"
    if top in HOST_ONLY_NAMES or top == "wan_gguf" or (top in FLOORS and floor != "cli"):
        return f"absolute import of {module}: relative imports reach the pack, comfy.* the host"
    if top in FORBIDDEN_IMPORTS and floor not in FREE_TO_IMPORT_ANYTHING:
        return f"{module} has no place in a runtime file"
    return None


def call_faults(file: Path, tree: ast.AST) -> list[str]:
    """Calls and assignments that no runtime file may contain."""
    floor, faults = floor_of(file), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted(node.func) in FORBIDDEN_CALLS:
            faults.append(f"line {node.lineno}: {dotted(node.func)}")
        if isinstance(node, ast.Attribute) and dotted(node) == "sys.path" and floor != "cli":
            faults.append(f"line {node.lineno}: sys.path")
    return faults


@pytest.mark.parametrize("file", pack_files(), ids=lambda file: file.relative_to(ROOT).as_posix())
def test_floors_and_forbidden_calls(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert layer_faults(file, tree) + call_faults(file, tree) == []


def test_no_file_is_too_long():
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in all_files()}
    assert lengths, "no files found"
    assert {file.relative_to(ROOT).as_posix(): n for file, n in lengths.items() if n > MAX_LINES} == {}


def test_no_cli_file_shadows_the_standard_library():
    """`python <pack>/cli` puts that folder first on sys.path."""
    names = {path.stem for path in (ROOT / "cli").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert names & sys.stdlib_module_names == set()


CASES = [
    ("ops/a.py", "from ..loaders import gguf", "ops must not import loaders"),
    ("ops/formats/a.py", "from ...text.clean import x", "ops must not import text"),
    ("text/a.py", "from .. import host", "text must not import host"),
    ("loaders/a.py", "import comfy.ops", "loaders must not import comfy.ops"),
    ("nodes/a.py", "import folder_paths", "nodes must not import folder_paths"),
    ("host/a.py", "from comfy_api.latest import io", "host must not import comfy_api.latest"),
    ("nodes/a.py", "from comfy_api.v0_0_2 import io", "import comfy_api.latest, not comfy_api.v0_0_2"),
    ("nodes/a.py", "from wan_gguf.host import paths", "absolute import of wan_gguf.host"),
    ("nodes/a.py", "from host import paths", "absolute import of host"),
    ("ops/a.py", "from .... import x", "ops must not import <outside the pack>"),
    ("cli/a.py", "from wan_gguf.host import models", "cli must not import wan_gguf.host"),
    ("loaders/a.py", "import pickle", "pickle has no place in a runtime file"),
]


@pytest.mark.parametrize(("path", "source", "fault"), CASES)
def test_the_rules_catch_an_import_that_breaks_them(path, source, fault):
    assert [found for found in layer_faults(ROOT / path, ast.parse(source)) if found.startswith(fault)]


@pytest.mark.parametrize("source", ["torch.load(p)", "os.system('x')", "eval('1')", "sys.path.insert(0, '')"])
def test_the_rules_catch_a_call_that_breaks_them(source):
    assert call_faults(ROOT / "ops/a.py", ast.parse(source))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("nodes/a.py", "from comfy_api.latest import io\nfrom ..host.paths import model_path\nfrom .b import C"),
        ("host/a.py", "import comfy.sd\nfrom ..loaders.wan import load_wan"),
        ("ops/formats/a.py", "import torch\nfrom ..block_format import BlockFormat"),
        ("cli/a.py", "import subprocess\nfrom wan_gguf.loaders.describe import describe\nimport wan_gguf"),
        ("__init__.py", "from .nodes.extension import X"),
    ],
)
def test_the_rules_allow_what_the_design_allows(path, source):
    assert layer_faults(ROOT / path, ast.parse(source)) == []
