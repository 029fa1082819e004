"""Runs webhook receivers on loopback, and creates certificates for them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpcore2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

OK = b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"done":true}'

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Receiver:
    """A webhook receiver on loopback.

    Attributes:
        port: the port on which the receiver listens.
        requests: the heads and bodies of all requests, in order.
        connections: the number of connections that were opened.
    """

    def __init__(self, answer: Answer, greeting: bytes) -> None:
        self.port = 0
        self.requests: list[tuple[bytes, bytes]] = []
        self.connections = 0
        self._answer = answer
        self._greeting = greeting
        self._tasks: list[asyncio.Task[Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Reads and answers the requests of one connection."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        try:
            writer.write(self._greeting)
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append((head, await reader.readexactly(length)))
                await self._answer(reader, writer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or the test is over
        finally:
            writer.transport.abort()

    async def close(self) -> None:
        """Closes all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks)


@asynccontextmanager
async def receiver(
    answer: Answer | bytes = OK, tls: ssl.SSLContext | None = None, greeting: bytes = b""
) -> AsyncIterator[Receiver]:
    """Runs a receiver.

    Args:
        answer: the bytes to send after each request, or a function that sends the answer.
        tls: the context of the receiver. None runs it without TLS.
        greeting: bytes to send when a connection opens.
    """

    async def write(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(answer, bytes)
        writer.write(answer)

    it = Receiver(write if isinstance(answer, bytes) else answer, greeting)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0, ssl=tls)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        await it.close()
        await server.wait_closed()


class LoopbackNetwork(httpcore2.AsyncNetworkBackend):
    """A network that redirects all connections to one port on loopback, and records where they should have gone.

    Attributes:
        asked: the addresses and ports of the requested connections.
        down: addresses that refuse connections.
    """

    def __init__(self, port: int, down: Sequence[str] = ()) -> None:
        self.asked: list[tuple[str, int]] = []
        self.down = down
        self._port = port
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self, host: str, port: int, *args: Any, **kwargs: Any
    ) -> httpcore2.AsyncNetworkStream:
        self.asked.append((host, port))
        if host in self.down:
            raise httpcore2.ConnectError("down")
        return await self._network.connect_tcp("127.0.0.1", self._port)


class Authority:
    """A certificate authority. It writes its certificates into a directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self._certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(True, 0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def client_context(self) -> ssl.SSLContext:
        """Returns a TLS context for clients that trusts only this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        pem = self._certificate.public_bytes(serialization.Encoding.PEM)
        context.load_verify_locations(cadata=pem.decode())
        return context

    def server_context(self, *hosts: str, days: int = 1) -> ssl.SSLContext:
        """Returns a TLS context for servers, with a certificate for `hosts` that expires after `days` days."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "receiver")])
        certificate = (
            self._builder(subject, key.public_key(), days)
            .add_extension(x509.SubjectAlternativeName([_name(host) for host in hosts]), False)
            .sign(self._key, hashes.SHA256())
        )
        path = self._folder / f"{'-'.join(hosts).replace(':', '_')}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: int = 1
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        issuer = self._key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=3))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), False)
        )


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
