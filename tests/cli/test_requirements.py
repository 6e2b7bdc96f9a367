"""The small reader of pyproject.toml agrees with tomllib, and the host's list is taken as it is."""

import sys

import pytest

from wan_gguf.cli.requirements import TORCH, all_requirements, host_requirements, pack_requirements, pack_version


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is new in Python 3.11")
def test_pyproject_is_read_as_tomllib_reads_it(root):
    import tomllib

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    dev = project["optional-dependencies"]["dev"]
    assert pack_requirements(dev=False) == project["dependencies"]
    assert pack_requirements(dev=True) == project["dependencies"] + dev
    assert pack_version() == project["version"]


def test_lists_over_several_lines_with_extras_are_read(tmp_path):
    path = tmp_path / "pyproject.toml"
    path.write_text(
        '[project]\ndependencies = [\n  "a[x]>=1",  # why\n  "b",\n]\n[x]\ndev = ["c[y,z]; os_name == \'nt\'"]\n'
    )
    assert pack_requirements(dev=True, pyproject=path) == ["a[x]>=1", "b", "c[y,z]; os_name == 'nt'"]


def test_host_list_loses_comments_only(tmp_path):
    text = "torch\n# heading\n\nkornia>=0.7.1  # filters\nx @ file:///a#egg=x\n"
    (tmp_path / "requirements.txt").write_text(text)
    assert host_requirements(tmp_path) == ["torch", "kornia>=0.7.1", "x @ file:///a#egg=x"]
    everything = all_requirements(tmp_path, dev=True)
    assert everything[:3] == list(TORCH)
    assert {"kornia>=0.7.1", *pack_requirements(dev=True)} <= set(everything)
