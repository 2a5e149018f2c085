"""Certificates for servers with TLS."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def make_certificates(directory: Path) -> Path:
    """``ca.pem``, ``cert.pem`` and ``key.pem`` of ``localhost``, which is its own authority."""
    command = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    key, certificate = directory / "key.pem", directory / "cert.pem"
    subprocess.run(["openssl", *command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    shutil.copy(certificate, directory / "ca.pem")
    key.chmod(0o644)
    return directory
