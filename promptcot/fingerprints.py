"""Short hashes of settings, rows and weights: what names the making of a row."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from promptcot.adapters import (
    ADAPTER_CONFIG,
    adapter_settings,
    base_of,
    is_adapter,
    tokenizer_folder,
)

PROBES = "probes.json"
"""A file beside the weights that is none of them: what the trainer makes of some sequences."""
EDGE = 1 << 20
"""Bytes read at both ends of a weights file; the whole of a 32B model would take minutes."""
SAMPLES, SAMPLE = 64, 1 << 14
"""How many blocks between the ends are read, and the bytes of each: a fit of a part of the layers,
merged into its base, leaves both ends as they were."""


def fingerprint(*parts: Any) -> str:  # noqa: ANN401
    """16 hexadecimal digits of the SHA-256 of the parts as canonical JSON."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_fingerprint(weights: str) -> str:
    """Names the weights in a folder by their files' names, sizes and samples; a hub name by itself.

    An adapter is named by its own files, its settings and its base.
    """
    folder = Path(weights)
    if not folder.is_dir():
        return fingerprint(weights)
    kinds = ("safetensors", "json", "bin", "gguf", "model", "jinja", "txt")
    names = tuple(f"*.{kind}" for kind in kinds)
    left_out = {folder / PROBES, folder / ADAPTER_CONFIG}
    files = sorted({path for name in names for path in folder.glob(name)} - left_out)
    parts: list[Any] = [(path.name, path.stat().st_size, _sampled(path)) for path in files]
    if is_adapter(weights):
        parts += [_settings(weights), weights_fingerprint(base_of(weights))]
    return fingerprint(parts)


def _settings(adapter: str) -> dict[str, Any]:
    """Without the path of the base, and with sets in order: PEFT writes them in any."""
    settings = adapter_settings(adapter) | {"base_model_name_or_path": ""}
    return {n: sorted(v, key=str) if isinstance(v, list) else v for n, v in settings.items()}


def _sampled(path: Path) -> str:
    """Of both ends and of blocks at equal distances between; of a small file all of it."""
    size = path.stat().st_size
    step = max(SAMPLE, (size - 2 * EDGE) // SAMPLES)
    found = hashlib.sha256()
    with open(path, "rb") as file:
        found.update(file.read(EDGE))
        for start in range(EDGE, size - EDGE, step):
            file.seek(start)
            found.update(file.read(SAMPLE))
        file.seek(max(EDGE, size - EDGE))
        found.update(file.read(EDGE))
    return found.hexdigest()


def tokenizer_fingerprint(weights: str) -> str:
    """Names the tokenizer of a folder of weights by its files, chat template included."""
    folder = Path(tokenizer_folder(weights))
    if not folder.is_dir():
        return fingerprint(weights)
    names = ("tokenizer*", "*.jinja", "*.model", "vocab*", "merges*", "special_tokens*", "added*")
    files = sorted({path for name in names for path in folder.glob(name) if path.is_file()})
    return fingerprint([(path.name, file_sha256(path)) for path in files])
