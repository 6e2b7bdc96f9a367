"""Shared set-up: the fixed import name `wan_gguf`, and the host on the import path for the tests that need it.

The pack's folder may have any name, so it is registered under `wan_gguf` through an import spec; the root itself is
taken off sys.path, or `nodes` and `ops` would shadow the host's modules of the same name.
"""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _register_pack() -> None:
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]
    if "wan_gguf" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "wan_gguf", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["wan_gguf"] = module
    spec.loader.exec_module(module)


def _add_host() -> None:
    """Put the host (COMFYUI_DIR, set by `python3 cli test`) on the import path; without CUDA in its CPU mode."""
    host = os.environ.get("COMFYUI_DIR")
    if not host or not Path(host, "comfy").is_dir():
        return
    sys.path.insert(0, host)
    import torch
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()


def _share_cores() -> None:
    """One of several test processes takes its share of the cores, or their threads would wait for each other."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        import torch

        torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))


_register_pack()
_add_host()
_share_cores()


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also run the long campaigns")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--long"):
        return
    skip = pytest.mark.skip(reason="a long campaign: run with `python3 cli test --long`")
    for item in items:
        if "long" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def root() -> Path:
    """The pack's folder."""
    return ROOT


@pytest.fixture(scope="session")
def host_dir() -> Path:
    """The host's folder; a missing one is an error, because `python3 cli test` always provides it."""
    host = os.environ.get("COMFYUI_DIR")
    if not host:
        pytest.fail("COMFYUI_DIR is not set: run the tests with `python3 cli test`")
    return Path(host)
