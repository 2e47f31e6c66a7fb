"""Secrets at rest: AES-256-GCM under a key file beside the database."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from datafly_lite.errors import StorageRefused

NONCE_SIZE_BYTES = 12
KEY_SIZE_BYTES = 32


class Keyring:
    """Encrypts and decrypts with the one key of this data folder."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def open(cls, path: Path, *, create: bool) -> Keyring:
        """Read the key file; with `create`, make one with mode 0600 where there is none.

        Raises StorageRefused when the file is missing (its secrets would be lost for good) or damaged.
        """
        if create and not path.exists():
            try:
                _write_new_key(path)
            except OSError as error:
                raise StorageRefused(
                    f"the data folder {path.parent} cannot be used: {error.strerror}"
                ) from None
        if not path.exists():
            raise StorageRefused(
                f"{path} is missing: without it the stored secrets cannot be read; restore it"
            )
        try:
            key = path.read_bytes()
        except OSError as error:
            raise StorageRefused(f"{path} cannot be read: {error.strerror}") from None
        if len(key) != KEY_SIZE_BYTES:
            raise StorageRefused(f"{path} is damaged: {KEY_SIZE_BYTES} bytes expected, {len(key)} found")
        return cls(key)

    def encrypt(self, plain: bytes, purpose: bytes | None = None) -> bytes:
        """Nonce and ciphertext. With a `purpose` it is good for nothing else: what is given away has one."""
        nonce = os.urandom(NONCE_SIZE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, purpose)

    def decrypt(self, sealed: bytes, purpose: bytes | None = None) -> bytes:
        """Raises StorageRefused when it was sealed under another key, or for another purpose."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_SIZE_BYTES], sealed[NONCE_SIZE_BYTES:], purpose)
        except (InvalidTag, ValueError):
            raise StorageRefused("a stored secret was encrypted under another key file") from None


def _write_new_key(path: Path) -> None:
    """Whole or not at all, and never over another: a crash or a second process must not cost the key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(f".{os.getpid()}")
    half.unlink(missing_ok=True)
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(KEY_SIZE_BYTES))
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(half, path)
    half.unlink()
