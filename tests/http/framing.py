"""Requests with every spelling of the numbers and names that frame a request, valid and invalid.

Each request appends `hello`. A valid one must be stored, and an invalid one must be refused with a 4xx.
"""

from typing import Final, NamedTuple

MAX_BODY: Final = 1000
BODY: Final = b"hello"


class Framed(NamedTuple):
    """One request, and whether the server must accept it.

    Attributes:
        octets: the whole request.
        taken: whether the server must store the body. None allows both, because the request is valid, but so long that the server
            refuses it if it comes in pieces.
    """

    octets: bytes
    taken: bool | None


def _request(
    *lines: bytes, body: bytes = BODY, version: bytes = b"HTTP/1.1", taken: bool | None = False
) -> Framed:
    """Returns an append with the given header lines, body and version."""
    head = b"".join(
        [b"POST /v1/stream/a ", version, b"\r\nHost: h\r\nContent-Type: text/plain\r\n"]
    )
    return Framed(head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body, taken)


#: Values of Content-Length that mean 5.
LENGTHS_TAKEN: Final[dict[str, bytes]] = {
    "plain": b"5",
    "zero-first": b"05",
    "20-zeros": b"0" * 20 + b"5",
    "4300-zeros": b"0" * 4300 + b"5",
    "5000-zeros": b"0" * 5000 + b"5",
}
#: Values of Content-Length that are refused, because they are not numbers or are too large.
LENGTHS_REFUSED: Final[dict[str, bytes]] = {
    "40000-zeros": b"0" * 40_000 + b"5",
    "limit-plus-1": b"%d" % (MAX_BODY + 1),
    **{f"2-to-{power}": b"%d" % 2**power for power in (31, 32, 53, 63, 64, 65, 128)},
    **{f"2-to-{power}-less-1": b"%d" % (2**power - 1) for power in (31, 32, 63, 64)},
    "2-to-64-plus-5": b"%d" % (2**64 + 5),
    **{f"{count}-nines": b"9" * count for count in (18, 19, 20, 4299, 4300, 4301, 5000, 30_000)},
    "zeros-and-nines": b"0" * 5000 + b"9" * 30,
    "plus": b"+5",
    "minus": b"-5",
    "minus-zero": b"-0",
    "hexadecimal": b"0x5",
    "binary": b"0b101",
    "underscore": b"5_0",
    "underscore-first": b"_5",
    "exponent": b"5e0",
    "point": b"5.0",
    "empty": b"",
    "word": b"five",
    "nan": b"nan",
    "infinity": b"infinity",
    "list": b"5,5",
    "list-with-space": b"5, 5",
    "list-of-two": b"5, 6",
    "list-open": b"5,",
    "list-begun": b",5",
    "space-inside": b"5 5",
    "semicolon": b"5;",
    "quoted": b'"5"',
    "arabic": "٥".encode(),
    "full-width": "５".encode(),
    "superscript": "⁵".encode(),
    "latin-superscript": b"\xb2",
    "nul": b"5\x00",
    "vertical-tab": b"5\x0b",
    "form-feed": b"\x0c5",
    "no-break-space": b"5\xa0",
}
#: Values of Transfer-Encoding that are refused.
CODINGS_REFUSED: Final[dict[str, bytes]] = {
    "gzip": b"gzip, chunked",
    "identity": b"identity",
    "twice": b"chunked, chunked",
    "not-last": b"chunked, identity",
    "comma-first": b",chunked",
    "comma-last": b"chunked,",
    "parameter": b"chunked;q=1",
    "quoted": b'"chunked"',
    "longer": b"chunkedx",
    "shorter": b"chunke",
    "empty": b"",
    "vertical-tab": b"\x0bchunked",
    "nul": b"chunked\x00",
    "long-s": "chunſked".encode(),
    "number": b"5",
}
_CHUNKED: Final = b"Transfer-Encoding: chunked"
_SIZES_TAKEN: Final[dict[str, bytes]] = {
    "plain": b"5",
    "zero-first": b"05",
    "16-zeros": b"0" * 16 + b"5",
    "5000-zeros": b"0" * 5000 + b"5",
    "extension": b"5;x",
    "extension-value": b"5;x=y",
    "extension-quoted": b'5;x="a;b"',
}
_SIZES_REFUSED: Final[dict[str, bytes]] = {
    "16-fs": b"f" * 16,
    "17-digits": b"1" + b"0" * 16,
    "17-digits-and-5": b"1" + b"0" * 15 + b"5",
    "5000-fs": b"f" * 5000,
    "2-to-63": b"8" + b"0" * 15,
    "2-to-63-less-1": b"7" + b"f" * 15,
    "2-to-32": b"100000000",
    "plus": b"+5",
    "minus": b"-5",
    "minus-zero": b"-0",
    "prefixed": b"0x5",
    "underscore": b"5_0",
    "space-first": b" 5",
    "space-last": b"5 ",
    "tab-last": b"5\t",
    "empty": b"",
    "word": b"g",
    "arabic": "٥".encode(),
    "full-width": "５".encode(),
    "comma": b"5,5",
    "nul": b"5\x00",
    "extension-nul": b"5;x=\x00",
    "too-small": b"4",
    "too-large": b"6",
    "past-the-limit": b"%x" % (MAX_BODY + 1),
}
_VERSIONS_REFUSED: Final = (
    b"HTTP/0.9",
    b"HTTP/1.2",
    b"HTTP/2.0",
    b"HTTP/3.0",
    b"HTTP/1.10",
    b"HTTP/1.01",
    b"HTTP/01.1",
    b"HTTP/11.1",
    b"HTTP/1",
    b"HTTP/1.",
    b"HTTP/.1",
    b"HTTP/-1.1",
    b"HTTP/+1.1",
    b"HTTP/1,1",
    b"HTTP/1.1.1",
    b"HTTP/" + b"9" * 5000 + b".1",
    b"HTTP/1." + b"0" * 5000 + b"1",
    "HTTP/١.١".encode(),
    b"http/1.1",
    b"HTTPS/1.1",
    b"ICE/1.1",
    b"",
)


def _chunk(size: bytes, taken: bool | None = False) -> Framed:
    """Returns a chunked append whose chunk has this spelling of its size."""
    return _request(_CHUNKED, body=size + b"\r\n" + BODY + b"\r\n0\r\n\r\n", taken=taken)


def _length(value: bytes, taken: bool = False) -> Framed:
    """Returns an append with this value of Content-Length."""
    return _request(b"Content-Length: " + value, taken=taken)


_CHUNKS: Final = b"5\r\nhello\r\n0\r\n\r\n"
FRAMED: Final[dict[str, Framed]] = {
    **{f"length-{name}": _length(value, True) for name, value in LENGTHS_TAKEN.items()},
    **{f"length-{name}": _length(value) for name, value in LENGTHS_REFUSED.items()},
    "length-padded": _length(b" \t5 \t", True),
    "length-without-space": _request(b"Content-Length:5", taken=True),
    "length-in-capitals": _request(b"CONTENT-LENGTH: 5", taken=True),
    "lengths-same": _request(b"Content-Length: 5", b"Content-Length: 5"),
    "lengths-different": _request(b"Content-Length: 5", b"Content-Length: 0"),
    "lengths-different-case": _request(b"Content-Length: 5", b"CONTENT-LENGTH: 5"),
    "lengths-one-empty": _request(b"Content-Length: 5", b"Content-Length:"),
    "lengths-apart": _request(b"Content-Length: 5", b"X: y", b"Content-Length: 6"),
    "length-and-coding": _request(b"Content-Length: 5", _CHUNKED, body=_CHUNKS),
    "coding-and-length": _request(_CHUNKED, b"Content-Length: 15", body=_CHUNKS),
    "length-nought-and-coding": _request(b"Content-Length: 0", _CHUNKED, body=_CHUNKS),
    **{f"chunk-{name}": _chunk(size, True) for name, size in _SIZES_TAKEN.items()},
    **{f"chunk-{name}": _chunk(size) for name, size in _SIZES_REFUSED.items()},
    "chunk-100000-zeros": _chunk(b"0" * 100_000 + b"5", None),
    "chunk-extension-endless": _chunk(b"5;" + b"x" * 100_000, None),
    "chunk-last-long": _request(
        _CHUNKED, body=b"5\r\nhello\r\n" + b"0" * 5000 + b"\r\n\r\n", taken=True
    ),
    "trailer-length": _request(_CHUNKED, body=_CHUNKS[:-2] + b"Content-Length: 5\r\n\r\n"),
    "coding": _request(_CHUNKED, body=_CHUNKS, taken=True),
    "coding-in-capitals": _request(_CHUNKED.upper(), body=_CHUNKS, taken=True),
    **{
        f"coding-{name}": _request(b"Transfer-Encoding: " + value, body=_CHUNKS)
        for name, value in CODINGS_REFUSED.items()
    },
    "codings-same": _request(_CHUNKED, _CHUNKED, body=_CHUNKS),
    "codings-different": _request(_CHUNKED, b"Transfer-Encoding: identity", body=_CHUNKS),
    "coding-of-http-1.0": _request(_CHUNKED, body=_CHUNKS, version=b"HTTP/1.0"),
    "version-1.0": _request(b"Content-Length: 5", version=b"HTTP/1.0", taken=True),
    **{
        f"version-{version[:12].decode('latin-1')}-{len(version)}": _request(
            b"Content-Length: 5", version=version
        )
        for version in _VERSIONS_REFUSED
    },
}
