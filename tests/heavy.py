"""Everything that ``cli.py`` imports late, so that commands forked from here need not import it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]

sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests")]
for name in ("cli", "lightning.pytorch.cli", "callbacks", "datamodules", "modules", "peft"):
    importlib.import_module(name)
