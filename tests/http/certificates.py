"""Makes self-signed certificates with the `openssl` command."""

import subprocess
from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    """The paths of two PEM files."""

    chain: str
    key: str


def make(directory: Path, name: str = "server") -> Certificate:
    """Makes a certificate for localhost and 127.0.0.1, and returns its files."""
    made = Certificate(str(directory / f"{name}.pem"), str(directory / f"{name}.key"))
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", made.key]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", made.chain]
    subprocess.run(command, check=True, capture_output=True)
    return made


def with_password(certificate: Certificate, directory: Path) -> str:
    """Returns the path of a copy of the key that is encrypted with a password."""
    path = str(directory / "encrypted.key")
    command = ["openssl", "pkey", "-in", certificate.key, "-aes256", "-passout", "pass:secret"]
    subprocess.run([*command, "-out", path], check=True, capture_output=True)
    return path
