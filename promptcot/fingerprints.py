"""Short hashes of settings, rows and weights: what names the making of a row."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

EDGE = 1 << 20
"""Bytes read at both ends of a weights file; the whole of a 32B model would take minutes."""


def fingerprint(*parts: Any) -> str:  # noqa: ANN401
    """16 hexadecimal digits of the SHA-256 of the parts as canonical JSON."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_fingerprint(weights: str) -> str:
    """Names the weights in a folder by their files' names, sizes and ends; a hub name by itself."""
    folder = Path(weights)
    if not folder.is_dir():
        return fingerprint(weights)
    names = ("*.safetensors", "*.json", "*.bin", "*.gguf", "*.model")
    files = sorted({path for name in names for path in folder.glob(name)})
    return fingerprint([(path.name, path.stat().st_size, _edges(path)) for path in files])


def _edges(path: Path) -> str:
    with open(path, "rb") as file:
        head = file.read(EDGE)
        file.seek(max(EDGE, path.stat().st_size - EDGE))
        return hashlib.sha256(head + file.read(EDGE)).hexdigest()
