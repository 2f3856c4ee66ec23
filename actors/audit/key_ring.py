"""The keys of the audit log: what encrypts (AES-256-GCM) and what signs (Ed25519), in one file of the installation.

``$PLINTH_HOME/keys/audit.json``, readable by its owner only. Master keys wrap the data keys that lie beside each
segment (``segment_keys``); a rotation makes new ones, and the old master key is destroyed once nothing is wrapped by
it. Of old signing keys the public half stays: it checks what they signed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cluster.core.errors import IntegrityError
from cluster.core.home import read_private, write_private

NONCE_BYTES, KEY_BYTES = 12, 32


def decoded(text: str) -> bytes:
    """The bytes of base64 text. ValueError: it is none, or not written as ``b64encode`` writes it."""
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError("other bits than those of the bytes")
    return raw


def seal(cipher: AESGCM, data: bytes, about: str) -> str:
    """Base64 of nonce and ciphertext; ``about`` is not in it, and opens it again."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return base64.b64encode(nonce + cipher.encrypt(nonce, data, about.encode())).decode()


def unseal(cipher: AESGCM, box: str, about: str) -> bytes:
    """What ``seal`` was given.

    Raises:
        IntegrityError: another key, another ``about``, or something was changed.
    """
    try:
        raw = decoded(box)
        return cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], about.encode())
    except (InvalidTag, ValueError):
        raise IntegrityError("it does not open with its key: it was changed") from None


@dataclass(frozen=True)
class KeyRing:
    """The keys as values.

    Attributes:
        path: of the file. current: the master key that wraps from now on.
        masters: secret by name. publics: public signing keys by fingerprint, the old ones too.
    """

    path: Path
    current: str
    masters: dict[str, bytes]
    signer: Ed25519PrivateKey
    publics: dict[str, bytes]

    @classmethod
    def make(cls, path: Path) -> KeyRing:
        """New keys, on disk."""
        signer = Ed25519PrivateKey.generate()
        made = cls(path, "m1", {"m1": secrets.token_bytes(KEY_BYTES)}, signer, _published(signer))
        made.write()
        return made

    @classmethod
    def read(cls, path: Path) -> KeyRing:
        """The keys of a file.

        Raises:
            FileNotFoundError: there is none.
            IntegrityError: it is not one of keys.
        """
        text = read_private(path)
        try:
            row = json.loads(text)
            masters = {name: base64.b64decode(key, validate=True) for name, key in row["masters"].items()}
            publics = {name: base64.b64decode(key, validate=True) for name, key in row["publics"].items()}
            signer = Ed25519PrivateKey.from_private_bytes(base64.b64decode(row["signer"], validate=True))
            masters[row["current"]], publics[_fingerprint(signer)]
            return cls(path, row["current"], masters, signer, publics)
        except (ValueError, TypeError, KeyError, AttributeError):
            message = f"{path} holds no audit keys: restore it; without it the log can be neither read nor continued"
            raise IntegrityError(message, path=str(path)) from None

    def write(self) -> None:
        """Put the keys on disk, all or nothing."""
        row = {
            "current": self.current,
            "masters": {name: base64.b64encode(key).decode() for name, key in self.masters.items()},
            "signer": base64.b64encode(self.signer.private_bytes_raw()).decode(),
            "publics": {name: base64.b64encode(key).decode() for name, key in self.publics.items()},
        }
        write_private(self.path, json.dumps(row, indent=1))

    def renewed(self) -> KeyRing:
        """With a new master key, which is the current one now, and a new signing key; the old ones still open."""
        name = f"m{max(int(name[1:]) for name in self.masters) + 1}"
        signer = Ed25519PrivateKey.generate()
        masters = {**self.masters, name: secrets.token_bytes(KEY_BYTES)}
        return KeyRing(self.path, name, masters, signer, {**self.publics, **_published(signer)})

    def without_old(self) -> KeyRing:
        """With the current master key only."""
        return KeyRing(self.path, self.current, {self.current: self.masters[self.current]}, self.signer, self.publics)

    @property
    def signed_by(self) -> str:
        """The fingerprint of the key that signs now."""
        return _fingerprint(self.signer)

    def wrap(self, data: bytes, about: str) -> dict[str, str]:
        """``{"by", "box"}``: data under the current master key."""
        return {"by": self.current, "box": seal(AESGCM(self.masters[self.current]), data, about)}

    def unwrap(self, row: dict[str, Any], about: str) -> bytes:
        """What ``wrap`` was given.

        Raises:
            IntegrityError: the master key is gone, or something was changed.
        """
        master = self.masters.get(str(row.get("by")))
        if master is None:
            raise IntegrityError(f"its master key {row.get('by')!r} is gone")
        return unseal(AESGCM(master), str(row.get("box")), about)

    def sign(self, text: str) -> dict[str, str]:
        """``{"signed_by", "signature"}`` over a text."""
        value = base64.b64encode(self.signer.sign(text.encode())).decode()
        return {"signed_by": self.signed_by, "signature": value}

    def signed(self, row: dict[str, Any], text: str) -> bool:
        """Whether a row's signature is one of ours over this text."""
        public = self.publics.get(str(row.get("signed_by")))
        if public is None:
            return False
        try:
            value = decoded(str(row.get("signature")))
            Ed25519PublicKey.from_public_bytes(public).verify(value, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


def _fingerprint(signer: Ed25519PrivateKey) -> str:
    return hashlib.sha256(signer.public_key().public_bytes_raw()).hexdigest()[:16]


def _published(signer: Ed25519PrivateKey) -> dict[str, bytes]:
    return {_fingerprint(signer): signer.public_key().public_bytes_raw()}
