"""Names for new files: what no system takes, and what would lead out of a folder."""

import pytest

from wan_gguf.text.file_names import validate_file_name


@pytest.mark.parametrize("name", ["a.gguf", "红色的圆", "a b-c_d (1).gguf", "console.txt", "x" * 200])
def test_a_name_stays_as_it_is(name):
    assert validate_file_name(name) == name


@pytest.mark.parametrize("name", ["../a", "..\\a", "/a", "a/b", "C:a", "a\x00", "a\nb", "a*", "a?", 'a"', "a|b", "<a>"])
def test_characters_that_lead_elsewhere_are_refused(name):
    with pytest.raises(ValueError, match="must be a name without folders and without"):
        validate_file_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a.", "a ", " a", "nul", "CON.txt", "Com1", "lpt9.gguf"])
def test_names_that_some_system_does_not_take_are_refused(name):
    with pytest.raises(ValueError, match="must be a name that every system takes"):
        validate_file_name(name)


def test_long_names_and_broken_unicode_are_refused():
    with pytest.raises(ValueError, match="must have 200 bytes in UTF-8 or fewer, got 201"):
        validate_file_name("x" * 201)
    with pytest.raises(ValueError, match="must be valid Unicode"):
        validate_file_name("a\ud800")
