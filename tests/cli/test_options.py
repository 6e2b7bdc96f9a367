"""The demo's options: what is refused, with which words, and what reaches the workflow."""

import pytest

from wan_gguf.cli.errors import UsageError
from wan_gguf.cli.options import NEGATIVE_POLICIES, SOLVERS, parse, parser
from wan_gguf.cli.workflow import load_workflow, settings_of, with_settings
from wan_gguf.sampling.solvers import SOLVERS as PACK_SOLVERS
from wan_gguf.text.negative import NEGATIVE_POLICIES as PACK_POLICIES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--frames", "80"], "frames must be 1 + a multiple of 4, got 80; nearest: 77 or 81"),
        (["x", "--frames", "2"], "frames must be 1 + a multiple of 4, got 2; nearest: 1 or 5"),
        (["x", "--frames", "0"], "frames must be 1 to 4097, got 0; nearest: 1"),
        (["x", "--width", "100"], "width must be a multiple of 16, got 100; nearest: 96 or 112"),
        (["x", "--height", "8"], "height must be 16 to 16384, got 8; nearest: 16"),
        (["x", "--cfg", "0.5"], "cfg must be 1.0 to 15.0, got 0.5; nearest: 1.0"),
        (["x", "--cfg", "nan"], "must be a number, got 'nan'"),
        (["x", "--shift", "0"], "shift must be above 0, got 0.0"),
        (["x", "--seed", "-1"], "seed must be 0 to 18446744073709551615, got -1; nearest: 0"),
        (["x", "--seed", str(2**64)], "nearest: 18446744073709551615"),
        (["x", "--steps", "0"], "steps must be 1 to 1000, got 0; nearest: 1"),
        (["x", "--steps", "1.5"], "must be a whole number, got '1.5'"),
        (["x", "--solver", "ddim"], "invalid choice: 'ddim'"),
        (["  \n"], "prompt is empty"),
        (["\udce7"], "prompt is not valid text"),
        (["x", "--negative", "\udce7"], "negative is not valid text"),
        ([], "required: prompt"),
        (["x", "--colour", "red"], "unrecognized arguments: --colour red"),
    ],
)
def test_bad_options_are_refused_with_the_remedy(arguments, message):
    with pytest.raises(UsageError) as refused:
        parse(arguments)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_as_output_folder_is_refused(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UsageError, match="is a file; name a folder"):
        parse(["x", "--out", str(tmp_path / "taken" / "below")])


def test_only_given_options_change_the_workflow():
    bundled = load_workflow()
    assert parse(["红色圆形"]).settings == {"prompt": "红色圆形"}
    options = parse(["x", "--seed", "7", "--cfg", "2", "--frames", "5", "--solver", "unipc", "--negative", "blur"])
    changed = with_settings(bundled, options.settings)
    given = {"prompt": "x", "seed": 7, "cfg": 2.0, "frames": 5, "solver": "unipc", "negative": "blur"}
    assert settings_of(changed) == {**settings_of(bundled), **given}
    assert settings_of(bundled)["seed"] == 0, "the bundled workflow itself must not change"


def test_help_states_the_workflows_defaults():
    text = " ".join(parser().format_help().split())
    for name in ("seed", "steps", "cfg", "shift", "frames", "width", "height", "solver"):
        assert f"--{name}" in text and f"(default: {settings_of(load_workflow())[name]})" in text


def test_choices_are_those_of_the_pack():
    """cli may not import these floors, so it lists their names itself."""
    assert set(SOLVERS) == set(PACK_SOLVERS)
    assert tuple(PACK_POLICIES) == NEGATIVE_POLICIES
