"""A base of four bits as an engine can load it: what the trainer computes with, written out."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from modules.merging import plain_base
from promptcot.adapters import ADAPTER_CONFIG, base_of, tokenizer_folder
from promptcot.fingerprints import weights_fingerprint
from promptcot.store import read_json, write_json

MADE_OF = "made_of.json"
"""A file in the rounded base: the fingerprint of what was rounded."""


def serve_rounded_base(trainer: Trainer, adapter: Path, folder: Path) -> None:
    """Let an exported adapter name the base that it is trained on; nothing where that is exact.

    An engine that loaded the original base would not be the policy: rounding to four bits moves
    a small model by tenths of a nat a token. The rounded base is made once, and anew where a fit
    on another base left one. For rank 0 alone.

    Args:
        trainer: Of a module with an adapter on a base of four bits, or any other.
        adapter: The exported folder, whose settings are changed.
        folder: Where the base is written.
    """
    module: Any = trainer.lightning_module
    lora = module.adapter
    if lora is None or lora.base != "nf4":
        return
    made_of = {"weights": weights_fingerprint(base_of(module.weights))}
    mark = folder / MADE_OF  # in a folder without one lies what an earlier version left
    if not mark.exists() or read_json(mark) != made_of:
        shutil.rmtree(folder, ignore_errors=True)
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        plain_base(module).save_pretrained(partial)
        _copy_tokenizer(module.weights, partial)
        write_json(partial / MADE_OF, made_of)
        os.replace(partial, folder)
    path = adapter / ADAPTER_CONFIG
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "base_model_name_or_path": str(folder.absolute())}))


def _copy_tokenizer(weights: str, folder: Path) -> None:
    from transformers import AutoTokenizer

    source = tokenizer_folder(weights) or base_of(weights)
    AutoTokenizer.from_pretrained(source, trust_remote_code=False).save_pretrained(folder)
