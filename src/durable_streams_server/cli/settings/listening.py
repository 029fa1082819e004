"""Settings of the address on which the server listens, and of TLS."""

import dataclasses
import ssl

import click

from ...http.serving.listening import tls_context
from ...protocol.names import DEFAULT_PORT
from ..values import FILE, HOST
from .definition import Topic, setting
from .sources import Sources


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listening(Topic):
    """The address on which the server listens, and TLS."""

    host: str = setting(
        "127.0.0.1",
        "Address to listen on. 'localhost' is 127.0.0.1 and ::1, and :: is every address of IPv6 and IPv4.",
        kind=HOST,
    )
    port: int = setting(
        DEFAULT_PORT, "Port to listen on; 0 picks a free one.", kind=click.IntRange(0, 65535)
    )
    uds: str | None = setting(
        None,
        "Unix socket to listen on instead; its mode is 777 less the umask.",
        kind=FILE,
        metavar="PATH",
        example="/run/streams.sock",
    )
    tls_cert: str | None = setting(
        None, "Certificate chain in PEM, to speak HTTPS.", kind=FILE, example="chain.pem"
    )
    tls_key: str | None = setting(
        None, "Its private key in PEM, without a password.", kind=FILE, example="key.pem"
    )
    http2: bool = setting(
        True,
        "With TLS, speak HTTP/2 with clients that ask for it; --no-http2 speaks HTTP/1.1 with all clients.",
    )

    def tls_context(self) -> ssl.SSLContext | None:
        """Returns the TLS context of the server, or None without a certificate.

        Raises:
            click.UsageError: The certificate or the key cannot be used.
        """
        if self.tls_cert is None or self.tls_key is None:
            return None
        try:
            return tls_context(self.tls_cert, self.tls_key, http2=self.http2)
        except ValueError as error:
            raise click.UsageError(str(error)) from None

    def check(self, sources: Sources) -> None:
        """Refuses a TCP address together with a Unix socket, and a certificate or key alone. Reads the certificate.

        Raises:
            click.UsageError: Two settings exclude each other, or the certificate cannot be used.
        """
        if self.uds is not None:
            sources.refuse_both("uds", "host")
            sources.refuse_both("uds", "port")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise click.UsageError(
                f"{sources.label('tls_cert')} and {sources.label('tls_key')} go together"
            )
        self.tls_context()
