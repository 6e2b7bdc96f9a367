"""The tree is clean for ruff, its formatter and the type checker."""

import shutil
import subprocess
import sys

TYPED_FLOORS = ("ops", "loaders", "sampling", "text")


def _run(*command: str, cwd) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def test_ruff_finds_nothing(root):
    _run("ruff", "check", "--no-cache", ".", cwd=root)


def test_ruff_would_format_nothing(root):
    _run("ruff", "format", "--check", "--diff", "--no-cache", ".", cwd=root)


def test_types_are_right(root, tmp_path):
    """The pack's folder may have any name, and mypy wants an identifier: it checks a copy named wan_gguf."""
    package = tmp_path / "wan_gguf"
    package.mkdir()
    for name in ("__init__.py", "pyproject.toml"):
        shutil.copy(root / name, package / name)
    for floor in TYPED_FLOORS:
        shutil.copytree(root / floor, package / floor, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__init__.py").write_text("")  # its entrypoint imports floors that are not type checked
    config = str(package / "pyproject.toml")
    cache = str(root / ".mypy_cache")
    targets = [f"wan_gguf/{floor}" for floor in TYPED_FLOORS]
    _run("mypy", "--config-file", config, "--cache-dir", cache, *targets, cwd=tmp_path)
