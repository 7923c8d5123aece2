"""A store URL with a slip in it: whatever is said of it holds no piece of the password."""

from __future__ import annotations

import pytest

from asyncjobs.errors import ConfigError
from asyncjobs.store import SCHEMES, make_backend
from asyncjobs.store.seam import StoreSettings

SECRET = "kretword"
FORMS = [
    "{scheme}//ada:{secret}@host:6379/0",
    "{scheme}//:{secret}@host/0",
    "{scheme}//ada:{secret}@/run/valkey.sock",
    "{scheme}///ada:{secret}@/run/valkey.sock",
    "{scheme}ada:{secret}@host",
    "{scheme}ada:{secret}@/run/valkey.sock",
    "{scheme}:{secret}@host",
    "{scheme}/ada:{secret}@host/run",
    "ada:{secret}@host",
    "{scheme}//ada:{secret}@a:1,b:2/shop/0",
    "{scheme}//ada:x?ssl_ca_certs={secret}@host",
    "{scheme}//ada:x/{secret}@host",
]
PLACES = ["/", "?", "#", "@", ":", "%", "[", "]", ",", " ", "//", "+", ";", "&", "=", "\x00"]


def slips(url: str) -> list[str]:
    """The URL, and with one character more, less or another one beside the secret."""
    start = url.index(SECRET)
    end = start + len(SECRET)
    found = [url]
    for place in (start, end):
        found += [url[:place] + more + url[place:] for more in PLACES]
    for at in range(max(start - 4, 0), start):
        found += [url[:at] + other + url[at + 1 :] for other in ("", *PLACES)]
    for at in range(end, min(end + 3, len(url))):
        found += [url[:at] + other + url[at + 1 :] for other in ("", *PLACES)]
    return found


def said_of(url: str) -> str:
    """Whatever anybody may see of the store at this URL."""
    try:
        backend = make_backend(url, StoreSettings())
    except ConfigError as error:
        return f"{error} {error!r} {error.__cause__}"
    return f"{backend.address} {vars(backend)}"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scheme", [scheme.removesuffix("//") for scheme in SCHEMES])
def test_no_slip_shows_the_password(scheme: str, form: str) -> None:
    url = form.format(scheme=scheme, secret=SECRET)
    # Without the '@' behind it the word is the name of a host, a folder or a file.
    found = [slip for slip in slips(url) if "@" in slip.rpartition(SECRET)[2]]
    assert found
    assert [slip for slip in found if SECRET in said_of(slip)] == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("unix:ada:secret@/run/v.sock", "needs a path and names no host"),
        ("unix:///ada:secret@/run/v.sock", "has an '@'"),
        ("unix://ada:secret@host/run/v.sock", "needs a path and names no host"),
        ("unix://run/v.sock", "needs a path and names no host"),
        ("embedded://ada:secret@host", "names a host"),
        ("embedded:ada:secret@host", "has an '@'"),
        ("embedded:/x?password=secret", "has fields"),
        ("ada:secret@host", "has no known scheme"),
        ("redis://host/" + "9" * 5_000, "is no number"),
        ("rediss://host?ssl_ca_certs=secret@host", "ssl_ca_certs cannot be read"),
        ("http://ada:secret@host", "unknown scheme 'http'"),
        ("s" * 5_000, "no known scheme"),
        ("secret.example.org:6379", "no known scheme"),
        ("ftp:", "unknown scheme 'ftp'"),
    ],
)
def test_what_is_said(url: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_backend(url, StoreSettings())
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert len(str(caught.value)) < 600
