"""From a URL to a connection, and what an error may show of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncjobs.errors import ConfigError
from asyncjobs.store.redis.address import Address
from asyncjobs.store.redis.resolving import NamedConnection, NamedSSLConnection
from redis.asyncio import UnixDomainSocketConnection


@pytest.mark.parametrize(
    ("url", "text", "kind"),
    [
        ("redis://", "redis://localhost:6379/0", NamedConnection),
        ("redis://db.example:7000/3", "redis://db.example:7000/3", NamedConnection),
        ("redis://db.example?db=4", "redis://db.example:6379/4", NamedConnection),
        ("redis://:s%40cret@[::1]:6380", "redis://[::1]:6380/0", NamedConnection),
        ("rediss://ada:secret@db.example/1", "rediss://db.example:6379/1", NamedSSLConnection),
        ("redis+sentinel://a/shop", "redis+sentinel://a:26379/shop/0", NamedConnection),
        ("redis+sentinel:///shop?db=2", "redis+sentinel://localhost:26379/shop/2", NamedConnection),
        (
            "redis+sentinel://u:secret@a:1,[::1],c:3/shop/4?sentinel_password=secret",
            "redis+sentinel://a:1,[::1]:26379,c:3/shop/4",
            NamedConnection,
        ),
        ("rediss+sentinel://a/shop", "rediss+sentinel://a:26379/shop/0", NamedSSLConnection),
        ("valkey://u:secret@db/2", "valkey://db:6379/2", NamedConnection),
        ("VALKEYS://:secret@db", "valkeys://db:6379/0", NamedSSLConnection),
        ("valkey+sentinel://a/shop", "valkey+sentinel://a:26379/shop/0", NamedConnection),
        ("valkeys+sentinel://a/shop", "valkeys+sentinel://a:26379/shop/0", NamedSSLConnection),
        ("unix:///run/v.sock", "unix:///run/v.sock?db=0", UnixDomainSocketConnection),
        ("unix://u:secret@/run/v.sock?db=2", "unix:///run/v.sock?db=2", UnixDomainSocketConnection),
    ],
)
def test_a_url_becomes_an_address_without_secrets(url: str, text: str, kind: type) -> None:
    address = Address.parse(url)
    assert (address.text, address.kind) == (text, kind)
    assert "secret" not in repr(address)
    assert "s@cret" not in repr(address)


def test_credentials_are_unquoted_for_the_connection() -> None:
    arguments = Address.parse("redis://a%20da:s%40cret@db").arguments
    assert (arguments["username"], arguments["password"]) == ("a da", "s@cret")


def test_sentinels_and_store_have_credentials_of_their_own() -> None:
    url = "redis+sentinel://ada:s%40cret@a:1/shop?sentinel_username=eve&sentinel_password=a+b%2Fc"
    address = Address.parse(url)
    assert address.arguments == {"username": "ada", "password": "s@cret", "db": 0}
    assert address.sentinels is not None
    assert (address.sentinels.service, address.sentinels.places) == ("shop", (("a", 1),))
    assert address.sentinels.arguments == {"username": "eve", "password": "a+b/c"}
    assert "a+b/c" not in repr(address)
    plain = Address.parse("redis+sentinel://:pass@a:1/shop").sentinels
    assert plain is not None
    assert plain.arguments == {}


def test_tls_holds_for_sentinels_and_store() -> None:
    address = Address.parse("rediss+sentinel://a:1/shop?ssl_check_hostname=false")
    assert address.sentinels is not None
    for arguments in (address.arguments, address.sentinels.arguments):
        assert arguments["ssl_check_hostname"] is False
        assert arguments["ssl_cert_reqs"] == "required"


def test_tls_is_checked_unless_the_url_says_otherwise(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    strict = Address.parse(f"rediss://db?ssl_ca_certs={ca}").arguments
    assert strict["ssl_cert_reqs"] == "required"
    assert strict["ssl_check_hostname"] is True
    assert strict["ssl_ca_certs"] == str(ca)
    loose = Address.parse("rediss://db?ssl_check_hostname=false").arguments
    assert loose["ssl_check_hostname"] is False


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://db/x", "no number"),
        ("redis://:12/kretsecret@localhost:7911/0", "%2F for /"),
        ("redis://:se/kretsecret@localhost", "%2F for /"),
        ("redis://:se#kretsecret@localhost", "%23 for #"),
        ("redis://:se?kretsecret@localhost", "%3F for ?"),
        ("redis:/:kretsecret@host:1", "no number"),
        ("redis://user:12#34secret@host/0", "%23 for #"),
        ("redis://:1?xsecret@host/0", "unknown field"),
        ("redis://db:port", "cannot be read"),
        ("redis://db:99999", "cannot be read"),
        ("redis://:secret@db?timeout=3", "unknown field 'timeout' behind '?'; redis:// knows db"),
        ("valkeys://db?ssl_ca_cert=x", "'ssl_ca_cert' behind '?'; valkeys:// knows ssl_ca_certs"),
        ("rediss://db?ssl_ca_cert=x", "did you mean ssl_ca_certs?"),
        ("rediss://db?decode_responses=True&db=1", "'decode_responses'"),
        ("redis://:12?kretsecret=x@host", "an unknown field behind '?'"),
        ("redis://:12?x=kret&y=secret@host", "an unknown field behind '?'"),
        ("redis://db?kret%20secret=1", "an unknown field behind '?'"),
        ("rediss://db?ssl_cert_reqs=secret", "ssl_cert_reqs must be required, or none"),
        ("rediss://db?ssl_ca=x", "ssl_ca_certs"),
        ("unix://", "needs a path"),
        ("redis+sentinel://a:1,b:2", "names the service"),
        ("redis+sentinel://a:1/shop/x", "no number"),
        ("redis+sentinel://a:x,b:2/shop", "cannot be read"),
        ("redis+sentinel://:se/kretsecret@a:1,b:2/shop", "%2F for /"),
        ("redis+sentinel://ada:12/kretsecret@a/0", "%2F for /"),
        ("redis+sentinel://:12/secret", "cannot be read"),
        ("redis+sentinel://a:1,:2/shop", "cannot be read"),
        ("redis+sentinel://a/shop?password=secret", "sentinel_username, sentinel_password"),
        ("redis://a?sentinel_password=secret", "unknown field"),
        ("rediss://db?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs=/nowhere/ca.pem"),
    ],
)
def test_a_wrong_url_is_refused_by_name(url: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Address.parse(url)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["none", "NONE", "CERT_NONE"])
@pytest.mark.parametrize("start", ["rediss://db", "valkeys+sentinel://a:1/shop"])
def test_a_certificate_that_nobody_checks_is_warned_of(value: str, start: str) -> None:
    address = Address.parse(f"{start}?ssl_cert_reqs={value}")
    arguments = [address.arguments]
    if address.sentinels is not None:
        arguments.append(address.sentinels.arguments)
    for each in arguments:
        assert (each["ssl_cert_reqs"], each["ssl_check_hostname"]) == ("none", False)
    (warning,) = address.warnings
    assert warning.startswith("ssl_cert_reqs=none: nobody checks")
    assert "secret" not in warning


@pytest.mark.parametrize("value", ["required", "optional", "CERT_REQUIRED"])
def test_a_certificate_is_checked_otherwise(value: str) -> None:
    address = Address.parse(f"rediss://db?ssl_cert_reqs={value}")
    assert address.arguments["ssl_cert_reqs"] == "required"
    assert address.arguments["ssl_check_hostname"] is True
    assert address.warnings == ()
