"""Encryption of credentials, by the names that the first version gave it."""

from ai_admin.vault.ciphertext import Context, VaultError
from ai_admin.vault.keyring import KeyRing
from ai_admin.vault.mounted import load_key_ring

__all__ = ["Context", "KeyRing", "VaultError", "decrypt_vault", "encrypt_vault", "load_key_ring"]


def encrypt_vault(value: bytes, ring: KeyRing, context: Context) -> bytes:
    """The ciphertext of a value for its place in the database; `load_key_ring` gives the ring."""
    return ring.seal(value, context)


def decrypt_vault(ciphertext: bytes, ring: KeyRing, context: Context) -> bytes:
    """The value of a ciphertext from the same place. Raises `VaultError`."""
    return ring.open(ciphertext, context)
