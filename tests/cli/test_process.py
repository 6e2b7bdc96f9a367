"""Other programs get this program's variables, but no way to packages outside the environment."""

import sys

import pytest

from wan_gguf.cli.errors import CliError
from wan_gguf.cli.process import clean_environment, output_of, run, succeeds


def test_outside_packages_are_kept_out(monkeypatch, tmp_path):
    (tmp_path / "outsider.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("SOME_SETTING", "红")
    assert not succeeds([sys.executable, "-c", "import outsider"])
    assert output_of([sys.executable, "-c", "import os; print(os.environ['SOME_SETTING'])"]) == "红\n"
    assert clean_environment(A="b")["A"] == "b"


def test_a_program_that_fails_or_is_missing_is_named(tmp_path, capfd):
    with pytest.raises(CliError, match=r"^baking failed \(exit code 3\)"):
        run([sys.executable, "-c", "print('flour'); raise SystemExit(3)"], "baking")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "flour\n"), "stdout is for results"
    with pytest.raises(CliError, match=r"^baking failed: .*no-such-program"):
        run([tmp_path / "no-such-program"], "baking")
    assert not succeeds([tmp_path / "no-such-program"])
    assert output_of([tmp_path / "no-such-program"]) is None
