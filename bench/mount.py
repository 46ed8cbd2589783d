"""The settings of a directory that a benchmark measures: a PostgreSQL of its own, keys of its own."""

import base64
import json
from pathlib import Path

from ai_admin.config import CONFIG_NAME, SECRET_NAME, Settings, load_settings
from ai_admin.embedded import EmbeddedPostgres
from ai_admin.vault.keyring import new_key_entry


def settings(root: Path, postgres: EmbeddedPostgres, database: str, config: dict[str, str], **further: str) -> Settings:
    """Lay out a Secret and a ConfigMap under `root` that lead to a database; `further` are more keys of the Secret."""
    secret = {
        "PG_HOST": str(postgres.socket_folder),
        "PG_DATABASE": database,
        "CURSOR_KEY": base64.b64encode(b"benchmark cursor key, 32 bytes..").decode(),
        "VAULT_KEYS": json.dumps({"keys": [new_key_entry("bench") | {"state": "primary"}]}),
        **further,
    }
    for kind, name, values in (("secrets", SECRET_NAME, secret), ("configs", CONFIG_NAME, config)):
        folder = root / kind / "bench" / name
        folder.mkdir(parents=True, exist_ok=True)
        for key, value in values.items():
            (folder / key).write_text(value)
    return load_settings(root)
