"""Tests which webhook URLs and which resolved addresses the policy allows."""

import socket
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.errors import BadRequest
from durable_streams_server.subscriptions.addresses import Target, WebhookPolicy
from tests.subscriptions.places import LOOPBACK, NEVER, PRIVATE, PUBLIC

STRICT = WebhookPolicy()
LOCAL = WebhookPolicy(allow_loopback=True)
REFUSAL = "the webhook URL's host is not allowed"

#: Spellings of 127.0.0.1, 10.0.0.1 and 8.8.8.8 that `inet_aton` accepts.
SPELLINGS = [
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0X7F000001",
    "127.1",
    "127.0.1",
    "0x7f.1",
    "0x7f.0.0.1",
    "0177.1",
    "0177.0.0.1",
    "0177.0.0x0.1",
    "127.0.0.01",
    "127.0.0.0x1",
    "00000177.0.0.1",
    "10.1",
    "0xa.0.0.1",
    "167772161",
    "134744072",
    "8.8.2056",
    "010.8.8.8",
    "0",
    "0x0",
]


#: URLs that are malformed, or that two parsers might read in two ways.
AMBIGUOUS_URLS = [
    "",
    "/",
    "//example.com/",
    "example.com",
    "https:",
    "https:example.com",
    "https:/example.com/",
    "https:///example.com/",
    "https://",
    "https://?",
    "https://:443/",
    "http://example.com/",
    "http://8.8.8.8/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "javascript:alert(1)",
    "https+unix://example.com/",
    "https://user@example.com/",
    "https://user:word@example.com/",
    "https://@example.com/",
    "https://example.com@10.0.0.1/",
    "https://example.com/#part",
    "https://example.com#@10.0.0.1/",
    "https://example.com\\@10.0.0.1/",
    "https:\\\\example.com/",
    "https://example.com\\.local/",
    "https://exa mple.com/",
    " https://example.com/",
    "https://example.com/ ",
    "https://example.com/\n",
    "https://example.com/a\tb",
    "ht\ntps://example.com/",
    "https://example.com/\x00",
    "https://example.com/\x7f",
    "https://example.com/\r\nHost: other",
    "https://ex\u00e4mple.com/",
    "https://example.com/\u00e4",
    "https://\u2460.example.com/",
    "https://127\u30020\u30020\u30021/",
    "https://\uff11\uff12\uff17.0.0.1/",
    "https://\u2113ocalhost/",
    "https://ex%61mple.com/",
    "https://127.0.0.1%2f.example.com/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[2606:4700::1111%251]/",
    "https://[::1/",
    "https://::1]/",
    "https://[]/",
    "https://[8.8.8.8]/",
    "https://[v1.x]/",
    "https://[2606:4700::1111]x/",
    "https://2606:4700::1111/",
    "https://example.com:/",
    "https://example.com:0/",
    "https://example.com:65536/",
    "https://example.com:99999999/",
    "https://example.com:-1/",
    "https://example.com:+443/",
    "https://example.com:4_43/",
    "https://example.com:443:443/",
    "https://example.com:x/",
    "https://.example.com/",
    "https://example..com/",
    "https://example.com./",
    "https://-example.com/",
    "https://example-.com/",
    f"https://{'a' * 64}.com/",
    f"https://{'a.' * 126}com/",
    "https://ex*mple.com/",
    "https://*.example.com/",
    "https://a,b.example/",
    "https://a;b.example/",
    "https://a&b.example/",
    "https://$host.example/",
    "https://example.com/" + "a" * 2048,
]


def rejection_of(url: str, policy: WebhookPolicy = STRICT) -> str:
    """Asserts that the policy rejects a URL, and returns the error message."""
    with pytest.raises(BadRequest) as caught:
        policy.check_url(url)
    assert caught.value.code == "WEBHOOK_URL_REJECTED"
    return caught.value.message


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def allows(policy: WebhookPolicy, host: str, address: str) -> bool:
    """Returns whether a policy allows a connection to an address of a host."""
    try:
        policy.check_address(host, address)
    except BadRequest as refusal:
        if (refusal.code, refusal.message) != ("WEBHOOK_URL_REJECTED", REFUSAL):
            raise
        return False
    return True


# URLs


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://hooks.example.com", Target("https", "hooks.example.com", 443, "/")),
        ("HTTPS://Hooks.Example.COM/A?b=C", Target("https", "hooks.example.com", 443, "/A?b=C")),
        ("https://a_b.example:8443/x/../y?", Target("https", "a_b.example", 8443, "/x/../y?")),
        ("https://example.com?q", Target("https", "example.com", 443, "/?q")),
        (
            "https://xn--bcher-kva.example/%2f",
            Target("https", "xn--bcher-kva.example", 443, "/%2f"),
        ),
        ("https://8.8.8.8:1/", Target("https", "8.8.8.8", 1, "/")),
        ("https://[2606:4700:0:0::1111]/", Target("https", "2606:4700::1111", 443, "/")),
        ("https://example.com:65535//x", Target("https", "example.com", 65535, "//x")),
    ],
)
def test_public_https_url_is_split_into_its_parts(url: str, target: Target) -> None:
    STRICT.check_url(url)
    assert STRICT.target(url) == target


@pytest.mark.parametrize("url", AMBIGUOUS_URLS)
def test_ambiguous_url_is_rejected(url: str) -> None:
    rejection_of(url)
    rejection_of(url, LOCAL)


def test_url_with_more_than_2048_bytes_is_rejected() -> None:
    url = "https://example.com/".ljust(2048, "a")
    STRICT.check_url(url)
    assert rejection_of(url + "a") == "a webhook URL may have 2048 bytes"


@pytest.mark.parametrize("host", SPELLINGS)
@pytest.mark.parametrize("suffix", ["", "."])
def test_unusual_spelling_of_an_address_is_rejected(host: str, suffix: str) -> None:
    socket.inet_aton(host)  # the resolver would accept it
    for policy in (STRICT, LOCAL, WebhookPolicy(allow=("10.0.0.0/8", "8.8.8.8"))):
        rejection_of(f"https://{host}{suffix}/", policy)
        rejection_of(f"http://{host}{suffix}/", policy)


@given(st.from_regex(r"[0-9a-fA-Fx.]{1,16}", fullmatch=True))
def test_name_that_the_resolver_reads_as_an_address_is_rejected(host: str) -> None:
    try:
        packed = socket.inet_aton(host)
    except OSError:
        return
    if host != socket.inet_ntoa(packed):
        rejection_of(f"https://{host}/")


@pytest.mark.parametrize(
    "host", ["1.2.3.256", "1.2.3.4.5", "example.1", "example.0x", "0x.0x", "09"]
)
def test_name_that_ends_in_a_number_is_rejected(host: str) -> None:
    rejection_of(f"https://{host}/")


@pytest.mark.parametrize("address", [*LOOPBACK, *PRIVATE, *NEVER])
def test_url_with_a_private_or_special_address_is_rejected(address: str) -> None:
    rejection_of(f"https://{bracketed(address)}/")
    rejection_of(f"https://{bracketed(address)}:8443/hook")
    rejection_of(f"https://{bracketed(address)}./")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST",
        "a.localhost",
        "worker",
        "intranet",
        "printer.local",
        "a.b.internal",
        "host.docker.internal",
        "router.home.arpa",
        "localhost.localdomain",
        "metadata",
        "metadata.google.internal",
        "Metadata.Google.Internal",
        "metadata.goog",
        "metadata.tencentyun.com",
        "instance-data",
    ],
)
def test_name_of_a_local_host_or_metadata_service_is_rejected(host: str) -> None:
    assert rejection_of(f"https://{host}/") == REFUSAL


def test_error_message_is_the_same_for_all_forbidden_hosts() -> None:
    policy = WebhookPolicy(deny=("denied.example", "8.8.4.4"))
    hosts = ["10.0.0.1", "[fe80::1]", "127.0.0.1", "worker", "denied.example", "8.8.4.4"]
    assert {rejection_of(f"https://{host}/", policy) for host in hosts} == {REFUSAL}


# Resolved addresses


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address_is_allowed(address: str) -> None:
    assert allows(STRICT, "hooks.example.com", address)
    STRICT.check_url(f"https://{bracketed(address)}/")


@pytest.mark.parametrize("address", [*LOOPBACK, *PRIVATE, *NEVER])
def test_name_that_resolves_to_a_private_or_special_address_is_refused(address: str) -> None:
    assert not allows(STRICT, "hooks.example.com", address)
    assert not allows(LOCAL, "hooks.example.com", address)


@pytest.mark.parametrize(
    "address", ["", "localhost", "127.1", "2130706433", "8.8.8.8.", " 8.8.8.8"]
)
def test_text_that_is_not_an_address_is_refused(address: str) -> None:
    assert not allows(LOCAL, "hooks.example.com", address)


@given(st.ip_addresses())
def test_only_global_unicast_addresses_are_allowed(address: object) -> None:
    if allows(STRICT, "hooks.example.com", str(address)):
        parsed = ip_address(str(address))
        assert parsed.is_global
        assert not parsed.is_multicast
        assert not parsed.is_reserved
        assert getattr(parsed, "ipv4_mapped", None) is None
        assert getattr(parsed, "sixtofour", None) is None
        assert getattr(parsed, "teredo", None) is None


# Loopback addresses


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_loopback_url_is_accepted_only_if_loopback_is_allowed(scheme: str, host: str) -> None:
    LOCAL.check_url(f"{scheme}://{host}:3000/hook")
    rejection_of(f"{scheme}://{host}:3000/hook")


def test_plain_http_is_accepted_only_for_localhost() -> None:
    LOCAL.check_url("https://a.localhost/")
    for host in ("a.localhost", "localhost.example.com", "10.0.0.1", "example.com", "[::2]"):
        rejection_of(f"http://{host}/", LOCAL)


@pytest.mark.parametrize("host", ["localhost", "a.localhost"])
def test_localhost_may_resolve_only_to_loopback_addresses(host: str) -> None:
    assert all(allows(LOCAL, host, address) for address in LOOPBACK)
    assert not any(allows(LOCAL, host, address) for address in [*PRIVATE, *NEVER, *PUBLIC])
    assert not any(allows(STRICT, host, address) for address in LOOPBACK)


@pytest.mark.parametrize("address", [*PRIVATE, *NEVER])
def test_allow_loopback_opens_no_other_private_address(address: str) -> None:
    rejection_of(f"https://{bracketed(address)}/", LOCAL)
    assert not allows(LOCAL, address, address)


# Allow and deny lists


def test_allow_list_of_names_refuses_all_other_hosts() -> None:
    policy = WebhookPolicy(allow=("hooks.example.com", "*.partner.example"))
    for host in (
        "hooks.example.com",
        "HOOKS.example.com",
        "a.partner.example",
        "a.b.partner.example",
    ):
        policy.check_url(f"https://{host}/")
        assert allows(policy, host.lower(), "8.8.8.8")
        assert not allows(policy, host.lower(), "10.0.0.1")
    for host in (
        "example.com",
        "a.hooks.example.com",
        "partner.example",
        "xpartner.example",
        "8.8.8.8",
    ):
        rejection_of(f"https://{host}/", policy)
        assert not allows(policy, host, "8.8.8.8")


def test_network_in_the_allow_list_opens_its_private_addresses() -> None:
    policy = WebhookPolicy(allow=("10.1.0.0/16", "fd12::/16", "192.168.1.7"))
    for address in ("10.1.2.3", "fd12::9", "192.168.1.7"):
        assert allows(policy, "hooks.example.com", address)
        policy.check_url(f"https://{bracketed(address)}/")
    for address in ("10.2.0.1", "fd13::9", "192.168.1.8", "8.8.8.8", "127.0.0.1"):
        assert not allows(policy, "hooks.example.com", address)
        rejection_of(f"https://{bracketed(address)}/", policy)
    policy.check_url(
        "https://hooks.example.com/"
    )  # only its addresses can show whether the host is allowed


def test_name_in_the_allow_list_opens_no_private_address() -> None:
    policy = WebhookPolicy(allow=("hooks.example.com",))
    assert not any(allows(policy, "hooks.example.com", address) for address in PRIVATE)


def test_name_in_the_allow_list_may_be_a_local_name() -> None:
    policy = WebhookPolicy(allow=("worker", "*.svc.internal", "10.0.0.0/8"))
    for host in ("worker", "a.svc.internal"):
        policy.check_url(f"https://{host}/")
        assert allows(policy, host, "10.0.0.9")
    rejection_of("https://other/", policy)
    rejection_of("https://metadata.google.internal/", WebhookPolicy(allow=("*.google.internal",)))


@pytest.mark.parametrize("address", [*NEVER, *LOOPBACK])
def test_allow_list_opens_no_special_address(address: str) -> None:
    policy = WebhookPolicy(allow=("0.0.0.0/0", "::/0", "*.example.com", "100.100.100.200"))
    assert not allows(policy, "hooks.example.com", address)
    assert not allows(policy, address, address)


def test_loopback_must_be_in_the_allow_list_if_there_is_one() -> None:
    rejection_of("http://localhost/", WebhookPolicy(True, allow=("example.com",)))
    WebhookPolicy(True, allow=("localhost",)).check_url("http://localhost/")
    WebhookPolicy(True, allow=("127.0.0.0/8",)).check_url("http://127.0.0.1/")
    rejection_of("http://127.0.0.1/", WebhookPolicy(allow=("127.0.0.0/8",)))


def test_mapped_entry_means_the_ipv4_address() -> None:
    policy = WebhookPolicy(deny=("::ffff:8.8.4.4",))
    assert not allows(policy, "good.example.com", "8.8.4.4")
    assert allows(policy, "good.example.com", "8.8.8.8")
    policy = WebhookPolicy(allow=("::ffff:10.0.0.0/104",))
    assert allows(policy, "10.1.2.3", "10.1.2.3")


def test_deny_list_overrides_the_allow_list_and_allow_loopback() -> None:
    policy = WebhookPolicy(
        allow_loopback=True,
        allow=("*.example.com", "10.0.0.0/8", "localhost"),
        deny=("bad.example.com", "*.worse.example.com", "10.9.0.0/16", "8.8.4.4", "localhost"),
    )
    for host in (
        "bad.example.com",
        "BAD.example.com",
        "a.worse.example.com",
        "10.9.1.1",
        "localhost",
    ):
        rejection_of(f"https://{host}/", policy)
    assert not allows(policy, "bad.example.com", "8.8.8.8")
    assert not allows(policy, "good.example.com", "10.9.1.1")
    assert not allows(policy, "good.example.com", "8.8.4.4")
    assert not allows(policy, "localhost", "127.0.0.1")
    assert allows(policy, "good.example.com", "10.8.1.1")


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "*",
        "*.",
        "*.*.com",
        "a.*.com",
        "**.example.com",
        ".example.com",
        "example.com.",
        "example.com:443",
        "https://example.com",
        "ex ample.com",
        "ex\u00e4mple.com",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.1",
        "2130706433",
        "[::1]",
        "fe80::1%eth0",
        "fe80::%eth0/64",
        "*.10.0.0.1",
    ],
)
def test_invalid_entry_of_a_list_raises_value_error(entry: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        WebhookPolicy(allow=(entry,))
    with pytest.raises(ValueError, match="neither"):
        WebhookPolicy(deny=(entry,))
