"""Requests that two HTTP parsers may read differently, so that one parser sees a hidden request (RFC 9112, 11.2)."""

from typing import Final

HIDDEN: Final = b"PUT /v1/stream/hidden HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
_POST: Final = b"POST /v1/stream/a HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\n"
_CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
_EMPTY: Final = b"0\r\n\r\n"


def _post(*lines: bytes, body: bytes = _EMPTY) -> bytes:
    """Returns an append with further header lines and a body."""
    return _POST + b"".join(lines) + b"\r\n" + body


def _length(value: bytes) -> bytes:
    """Returns an append of `hello` with this value of Content-Length."""
    return _post(b"Content-Length:" + value + b"\r\n", body=b"hello")


def _coding(value: bytes) -> bytes:
    """Returns an append with this value of Transfer-Encoding."""
    return _post(b"Transfer-Encoding:" + value + b"\r\n")


def _chunk(size: bytes, end: bytes = b"\r\n", after: bytes = b"\r\n") -> bytes:
    """Returns an append of one chunk `hello`, with a size and two line ends that may be wrong."""
    return _post(_CHUNKED, body=size + end + b"hello" + after + _EMPTY)


#: Requests that the server must refuse, and after which it must close the connection.
REFUSED: Final[dict[str, bytes]] = {
    # two lengths
    "length-and-coding": _post(b"Content-Length: 5\r\n", _CHUNKED),
    "coding-and-length": _post(_CHUNKED, b"Content-Length: 5\r\n"),
    "length-nought-and-coding": _post(b"Content-Length: 0\r\n", _CHUNKED),
    "two-lengths": _post(b"Content-Length: 0\r\nContent-Length: 5\r\n", body=b""),
    "two-equal-lengths": _post(b"Content-Length: 5\r\nContent-Length: 5\r\n", body=b"hello"),
    "list-of-lengths": _length(b" 5, 5"),
    # lengths that are not numbers
    "length-plus": _length(b" +5"),
    "length-minus": _length(b" -5"),
    "length-hexadecimal": _length(b" 0x5"),
    "length-with-space": _length(b" 5 5"),
    "length-exponent": _length(b" 1e1"),
    "length-point": _length(b" 5.0"),
    "length-empty": _length(b""),
    "length-blank": _length(b" "),
    "length-word": _length(b" five"),
    "length-other-digits": _length(" ٥".encode()),
    "length-overflow": _length(b" 18446744073709551621"),
    "length-long": _length(b" " + b"9" * 5000),
    "length-nul": _length(b" 5\x00"),
    "length-vertical-tab": _length(b"\x0b5"),
    # codings
    "codings-chunked-identity": _post(_CHUNKED, b"Transfer-Encoding: identity\r\n"),
    "codings-identity-chunked": _post(b"Transfer-Encoding: identity\r\n", _CHUNKED),
    "codings-twice": _post(_CHUNKED, _CHUNKED),
    "coding-list-twice": _coding(b" chunked, chunked"),
    "coding-last-not-chunked": _coding(b" chunked, identity"),
    "coding-gzip": _coding(b" gzip, chunked"),
    "coding-identity": _coding(b" identity"),
    "coding-unknown": _coding(b" xchunked"),
    "coding-longer": _coding(b" chunkedx"),
    "coding-quoted": _coding(b' "chunked"'),
    "coding-parameter": _coding(b" chunked;q=1"),
    "coding-empty": _coding(b""),
    "coding-comma": _coding(b" ,chunked"),
    "coding-vertical-tab": _coding(b"\x0bchunked"),
    "coding-nul": _coding(b" chunked\x00"),
    "coding-cut": _coding(b" chunk ed"),
    # header lines
    "space-before-colon": _post(b"Transfer-Encoding : chunked\r\n"),
    "tab-before-colon": _post(b"Content-Length\t: 5\r\n", body=b"hello"),
    "line-end-before-colon": _post(b"Transfer-Encoding\r\n: chunked\r\n"),
    "folded-line": _post(b"X: y\r\n Transfer-Encoding: chunked\r\n"),
    "folded-line-first": _POST.replace(b"Host: h", b" Host: h") + b"\r\n",
    "folded-coding": _post(b"Transfer-Encoding:\r\n chunked\r\n"),
    "no-colon": _post(b"Transfer-Encoding chunked\r\n"),
    "no-name": _post(b": chunked\r\n"),
    "name-with-space": _post(b"X Transfer-Encoding: chunked\r\n"),
    "name-with-nul": _post(b"Content\x00-Length: 5\r\n"),
    "name-beyond-ascii": _post("Contént-Length: 5\r\n".encode()),
    "value-with-nul": _post(b"X: a\x00b\r\nContent-Length: 0\r\n", body=b""),
    "bare-cr": _post(b"X: y\rTransfer-Encoding: chunked\r\n"),
    "bare-lf": _post(b"X: y\nTransfer-Encoding: chunked\r\n"),
    "bare-lf-everywhere": _post(b"Content-Length: 5\r\n", body=b"hello").replace(b"\r\n", b"\n"),
    "bare-lf-at-the-end": _POST + b"Content-Length: 5\r\n\nhello",
    "double-cr": _post(b"X: y\r\r\nContent-Length: 0\r\n", body=b""),
    # chunks
    "chunk-overflow": _chunk(b"1" + b"0" * 16),
    "chunk-overflow-to-five": _chunk(b"1" + b"0" * 15 + b"5"),
    "chunk-minus": _chunk(b"-5"),
    "chunk-plus": _chunk(b"+5"),
    "chunk-prefixed": _chunk(b"0x5"),
    "chunk-space-before": _chunk(b" 5"),
    "chunk-space-after": _chunk(b"5 "),
    "chunk-empty": _chunk(b""),
    "chunk-word": _chunk(b"g"),
    "chunk-bare-lf": _chunk(b"5", end=b"\n"),
    "chunk-bare-cr": _chunk(b"5", end=b"\r"),
    "chunk-without-end": _chunk(b"5", after=b""),
    "chunk-too-long": _chunk(b"4"),
    "chunk-too-short": _chunk(b"3"),
    "chunk-end-bare-lf": _chunk(b"5", after=b"\n"),
    "chunk-extension-bare-lf": _chunk(b"5;x\ny"),
    "chunk-extension-nul": _chunk(b"5;x=\x00"),
    "chunk-last-minus": _post(_CHUNKED, body=b"-0\r\n\r\n"),
    "trailer-length": _post(_CHUNKED, body=b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n"),
    "trailer-coding": _post(
        _CHUNKED, body=b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"
    ),
    "trailer-no-colon": _post(_CHUNKED, body=b"5\r\nhello\r\n0\r\nX\r\n\r\n"),
    # request lines
    "no-version": b"GET /v1/stream/a\r\n\r\n",
    "http-0.9": b"GET /v1/stream/a HTTP/0.9\r\n\r\n",
    "http-1.2": b"GET /v1/stream/a HTTP/1.2\r\nHost: h\r\n\r\n",
    "http-2.0": b"GET /v1/stream/a HTTP/2.0\r\nHost: h\r\n\r\n",
    "http-2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version-lower-case": b"GET /v1/stream/a http/1.1\r\nHost: h\r\n\r\n",
    "version-and-more": b"GET /v1/stream/a HTTP/1.1 x\r\nHost: h\r\n\r\n",
    "version-one-digit": b"GET /v1/stream/a HTTP/1\r\nHost: h\r\n\r\n",
    "space-in-target": b"GET /v1/stream/a b HTTP/1.1\r\nHost: h\r\n\r\n",
    "tab-for-space": b"GET\t/v1/stream/a\tHTTP/1.1\r\nHost: h\r\n\r\n",
    "control-in-target": b"GET /v1/stream/a\x01 HTTP/1.1\r\nHost: h\r\n\r\n",
    "line-end-in-target": b"GET /v1/stream/a\nX HTTP/1.1\r\nHost: h\r\n\r\n",
    "lower-case-method": b"get /v1/stream/a HTTP/1.1\r\nHost: h\r\n\r\n",
    "unknown-method": b"FOO /v1/stream/a HTTP/1.1\r\nHost: h\r\n\r\n",
    "space-first": b" GET /v1/stream/a HTTP/1.1\r\nHost: h\r\n\r\n",
    "response": b"HTTP/1.1 200 OK\r\n\r\n",
    "tls": bytes.fromhex("160301020001 0001fc0303") + b"\x00" * 32 + b"\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "two-hosts": b"GET /v1/stream/a HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n",
}

#: Requests that the server must accept, and their bodies. The hidden request is a part of the body.
TAKEN: Final[dict[str, tuple[bytes, bytes]]] = {
    "length": (_post(b"Content-Length: %d\r\n" % len(HIDDEN), body=HIDDEN), HIDDEN),
    "length-padded": (_post(b"Content-Length:  %d\t \r\n" % len(HIDDEN), body=HIDDEN), HIDDEN),
    "length-noughts": (_post(b"Content-Length: 000%d\r\n" % len(HIDDEN), body=HIDDEN), HIDDEN),
    "chunks": (
        _post(_CHUNKED, body=b"%X\r\n%b\r\n" % (len(HIDDEN), HIDDEN) + _EMPTY),
        HIDDEN,
    ),
    "chunk-noughts": (
        _post(_CHUNKED, body=b"000%x\r\n%b\r\n" % (len(HIDDEN), HIDDEN) + b"000\r\n\r\n"),
        HIDDEN,
    ),
    "chunk-extension": (
        _post(_CHUNKED, body=b'%x;a="b;c";d\r\n%b\r\n' % (len(HIDDEN), HIDDEN) + _EMPTY),
        HIDDEN,
    ),
    "coding-in-capitals": (
        _post(b"TRANSFER-ENCODING: CHUNKED\r\n", body=b"5\r\nhello\r\n" + _EMPTY),
        b"hello",
    ),
    "coding-padded": (
        _post(b"Transfer-Encoding:\t chunked \r\n", body=b"5\r\nhello\r\n" + _EMPTY),
        b"hello",
    ),
    "absolute-target": (
        _post(b"Content-Length: 5\r\n", body=b"hello").replace(b"POST /", b"POST http://other/"),
        b"hello",
    ),
    "trailers": (
        _post(_CHUNKED, body=b"5\r\nhello\r\n0\r\nStream-Closed: true\r\nX: y\r\n\r\n"),
        b"hello",
    ),
    "empty-lines-first": (b"\r\n\r\n" + _post(b"Content-Length: 5\r\n", body=b"hello"), b"hello"),
}
