"""TLS between the nodes of a cluster: an authority of its own, and a certificate for every node that it signs there.

Ray's processes then show each other a certificate of this authority on every gRPC connection and refuse whoever has
none (https://docs.ray.io/en/latest/ray-core/configure.html, "TLS Authentication"). The authority's file has its key, as
every node signs for itself: it is as secret as Ray's token, and comes to the nodes the same way.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.core.errors import EnvironmentFaultError, UsageError
from cluster.core.home import Home, write_private

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

AUTHORITY = "cluster_ca.pem"
AUTHORITY_DAYS = 3650
# A node signs for itself whenever it starts; none runs for as long.
NODE_DAYS = 397


def make_authority(path: Path) -> Path:
    """A new authority's certificate and key in one file (0600).

    Raises:
        UsageError: there is a file already: nodes of two authorities do not understand each other.
    """
    if path.exists():
        raise UsageError(
            f"{path} is there already; remove it first to make a new authority (all nodes have to restart)"
        )
    key = _new_key()
    made = _signed(key.public_key(), "plinth cluster authority", "plinth cluster authority", key, AUTHORITY_DAYS, [])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, _pem(made) + _pem(key))
    return path


def node_environment(home: Home, addresses: Sequence[str] | None = None) -> dict[str, str]:
    """Sign a certificate for this node and return what makes Ray use it; nothing where no authority was brought here
    (``cluster_ca.pem`` below PLINTH_HOME). Safe to repeat.

    Args:
        addresses: by which other nodes reach this one (default: ``own_addresses``).

    Raises:
        EnvironmentFaultError: the file holds no authority that is valid today.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = home.root / AUTHORITY
    try:
        data = path.read_bytes()
        authority, signer = x509.load_pem_x509_certificate(data), load_pem_private_key(data, None)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise EnvironmentFaultError(f"{path} has to hold an authority's certificate and key, as PEM: {error}") from None
    if not isinstance(signer, ec.EllipticCurvePrivateKey) or authority.public_key() != signer.public_key():
        raise EnvironmentFaultError(f"the key in {path} is not that of its certificate")
    if authority.not_valid_after_utc <= datetime.now(UTC):
        raise EnvironmentFaultError(f"the authority in {path} ended on {authority.not_valid_after_utc:%Y-%m-%d}")
    path.chmod(0o600)
    folder, key = home.folder("trust"), _new_key()
    made = _signed(
        key.public_key(), socket.gethostname()[:64], "", signer, NODE_DAYS, addresses or own_addresses(), authority
    )
    files = {"RAY_TLS_SERVER_CERT": _pem(made), "RAY_TLS_SERVER_KEY": _pem(key), "RAY_TLS_CA_CERT": _pem(authority)}
    found = {"RAY_USE_TLS": "1"}
    for name, text in files.items():
        own = folder / f"{name.removeprefix('RAY_TLS_').lower()}.pem"
        write_private(own, text)
        found[name] = str(own)
    return found


def own_addresses() -> list[str]:
    """The IP addresses that this machine is reached by: loopback, its name's, and the one it would send from."""
    found = ["127.0.0.1"]
    with contextlib.suppress(OSError):
        found += socket.gethostbyname_ex(socket.gethostname())[2]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nowhere:
        nowhere.connect(("192.0.2.1", 9))  # a datagram socket sends nothing when it connects
        found.append(nowhere.getsockname()[0])
    return list(dict.fromkeys(found))


def _new_key() -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _signed(
    key: ec.EllipticCurvePublicKey, name: str, issuer: str, signer: ec.EllipticCurvePrivateKey, days: int,
    addresses: Sequence[str], authority: x509.Certificate | None = None,
) -> x509.Certificate:  # fmt: skip
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(authority.subject if authority else named(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=not authority, path_length=None if authority else 0), critical=True)
    )
    if addresses:
        names = [x509.DNSName("localhost"), *(x509.IPAddress(ipaddress.ip_address(one)) for one in addresses)]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _pem(made: x509.Certificate | ec.EllipticCurvePrivateKey) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    if isinstance(made, x509.Certificate):
        return made.public_bytes(serialization.Encoding.PEM).decode()
    form = serialization.PrivateFormat.PKCS8
    return made.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
