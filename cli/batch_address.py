"""A server's address as a person gives it: what is accepted, what messages and records show, the login in it."""

import base64

from yarl import URL

from .errors import CliError

_EXAMPLE = "http://127.0.0.1:8188"


def shown_address(address: str) -> str:
    """The address for messages and records: without user name, password, query and fragment."""
    url = URL(address)
    bare = url.with_user(None) if url.host else url
    return str(bare.with_query(None).with_fragment(None))


def check_address(address: str) -> str:
    """A server's address, without a trailing slash and the fragment that a browser shows. Raises CliError."""
    wanted = f"--server must be an address such as {_EXAMPLE}"
    try:
        url = URL(address.strip())
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError
        shown = shown_address(address.strip())
    except ValueError:
        raise CliError(f"{wanted}, got {'the one given' if '@' in address else address}") from None
    if url.query_string:
        raise CliError(f"{wanted}, without a query: leave out what begins with '?' behind {shown}")
    if "@" in url.fragment:
        raise CliError(f"{wanted}; a '#' in a name or password is written %23, an '@' %40")
    return str(url.with_fragment(None)).rstrip("/")


def without_login(address: str) -> str:
    """What requests are sent to."""
    return str(URL(address).with_user(None)).rstrip("/")


def login(address: str) -> dict[str, str]:
    """The header of HTTP's basic login (RFC 7617) for the name and password in an address, if it has any."""
    url = URL(address)
    if not url.user:
        return {}
    words = f"{url.user}:{url.password or ''}".encode()
    return {"Authorization": "Basic " + base64.b64encode(words).decode()}
