"""The certificate with which others than this machine reach the service: a self-signed one, and is one usable."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.core.errors import EnvironmentFaultError, UsageError
from cluster.core.home import Home, write_private
from cluster.core.sections.cluster import ClusterSection

if TYPE_CHECKING:
    from cryptography import x509

DAYS = 397  # what browsers accept at most


def certificate_path(home: Home, section: ClusterSection) -> Path:
    """The PEM file with certificate and key: the configured one, or that of `plinth keys tls`."""
    return Path(section.tls_certificate).expanduser() if section.tls_certificate else home.root / "trust" / "tls.pem"


def make_certificate(home: Home, names: list[str]) -> Path:
    """A self-signed certificate for these host names and addresses, with its key, in one file (0600).

    Raises:
        UsageError: no name is given.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if not names:
        raise UsageError("say by which names or addresses others reach this machine: --name plinth.example.org")
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0][:64])])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = home.folder("trust") / "tls.pem"
    write_private(path, (made.public_bytes(pem) + secret).decode())
    return path


def check_certificate(path: Path) -> datetime:
    """When the certificate in a PEM file ends.

    Raises:
        EnvironmentFaultError: the file is missing, others may read it, it lacks certificate or key, they do not belong
            together, or it has expired.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        data = path.read_bytes()
        mode = path.stat().st_mode & 0o077
    except OSError as error:
        raise EnvironmentFaultError(
            f"cannot read the certificate {path}: {error.strerror}; `plinth keys tls --name NAME` makes one"
        ) from None
    if mode:
        raise EnvironmentFaultError(f"others may read the key in {path}: chmod 600 {path}")
    try:
        found, key = x509.load_pem_x509_certificate(data), load_pem_private_key(data, None)
    except (ValueError, TypeError) as error:
        raise EnvironmentFaultError(f"{path} has to hold a certificate and its key, as PEM: {error}") from None
    if found.public_key() != key.public_key():
        raise EnvironmentFaultError(f"the key in {path} is not that of its certificate")
    if found.not_valid_after_utc <= datetime.now(UTC):
        raise EnvironmentFaultError(f"the certificate in {path} ended on {found.not_valid_after_utc:%Y-%m-%d}")
    return found.not_valid_after_utc


def _name(text: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        pass
    try:
        return x509.DNSName(text)
    except ValueError:
        raise UsageError(f"{text!r} is no host name; write others in their xn-- form") from None
