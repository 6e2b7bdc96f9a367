"""What is taken as a server's address, and what is shown of it."""

import pytest

from wan_gguf.cli.batch_address import check_address, login, shown_address, without_login
from wan_gguf.cli.errors import CliError


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:8188",
        "localhost:8188",
        "ftp://h",
        "ws://127.0.0.1:8188",
        "http://",
        "http:///x",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:abc",
        "http://127.0.0.1:8188\\",
        "http://[::1",
        "",
    ],
)
def test_an_address_must_be_one(address):
    with pytest.raises(CliError, match=r"^--server must be an address such as http://127\.0\.0\.1:8188, got ") as wrong:
        check_address(address)
    assert str(wrong.value).endswith(address)


@pytest.mark.parametrize(
    ("address", "taken"),
    [
        ("http://host/comfy/", "http://host/comfy"),
        ("http://127.0.0.1:8188/#5e3f2a", "http://127.0.0.1:8188"),  # as a browser shows it
        (" http://127.0.0.1:8188 ", "http://127.0.0.1:8188"),
        ("http://[::1]:8188", "http://[::1]:8188"),
        ("https://me:secret@host/", "https://me:secret@host"),
    ],
)
def test_an_address_as_it_is_copied_is_taken(address, taken):
    assert check_address(address) == taken


def test_a_query_is_named_as_the_trouble_and_not_shown():
    with pytest.raises(CliError, match=r"without a query: leave out what begins with '\?' behind http://h:8188") as bad:
        check_address("http://me:pass@h:8188/?token=secret")
    assert "secret" not in str(bad.value) and "pass" not in str(bad.value)


def test_names_and_passwords_are_never_shown():
    assert shown_address("https://me:secret@host:8188/comfy?token=secret") == "https://host:8188/comfy"
    for address in ("ftp://me:secret@host", "http://me:secret@host:99999", "http://me:s#ecret@h", "http://me#secret@h"):
        with pytest.raises(CliError) as refused:
            check_address(address)
        assert "ecret" not in str(refused.value)


def test_a_login_travels_in_a_header_and_not_in_the_address():
    assert without_login("http://me:p%23s@host:8188/comfy/") == "http://host:8188/comfy"
    assert login("http://me:p%23s@host") == {"Authorization": "Basic bWU6cCNz"}  # me:p#s
    assert login("http://host") == {}
