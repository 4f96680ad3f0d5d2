"""Certificates for tests of TLS, made by the openssl command."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


class Certificates:
    """A certificate for n2.example and 127.0.0.1 that is its own authority, and contexts that use it at both ends."""

    def __init__(self, directory: Path) -> None:
        """Make it. Raises FileNotFoundError where there is no openssl."""
        self._key = str(directory / "key.pem")
        self._certificate = str(directory / "certificate.pem")
        words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        words += ["-subj", "/CN=n2", "-addext", "subjectAltName=DNS:n2.example,IP:127.0.0.1", "-days", "1"]
        words += ["-keyout", self._key, "-out", self._certificate]
        subprocess.run(words, check=True, capture_output=True)

    def listener(self) -> ssl.SSLContext:
        """Asks callers for a certificate, too."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self._certificate)
        context.load_cert_chain(self._certificate, self._key)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def caller(self, *, shows_one: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._certificate)
        if shows_one:
            context.load_cert_chain(self._certificate, self._key)
        return context
