"""``cli.py`` with a clock: seconds of loading, checkpoints and export, in ``timed.jsonl``.

Given in the place of ``cli.py``; ``TIMED_FIT`` names the file, which rank 0 writes.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as cli.py, which here comes after torch


def timed(owner: Any, name: str) -> None:  # noqa: ANN401
    """Have calls of a method timed, up to the moment at which every rank is done."""
    call: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(call)
    def measured(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        import torch.distributed as dist

        start = time.perf_counter()
        found = call(*args, **kwargs)
        if dist.is_initialized():
            dist.barrier()
        if not dist.is_initialized() or dist.get_rank() == 0:
            row = {"what": name, "seconds": round(time.perf_counter() - start, 2)}
            with open(os.environ["TIMED_FIT"], "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        return found

    setattr(owner, name, measured)


def main() -> int:
    """Run the command; its status."""
    import cli
    from callbacks import SaveProgress, export
    from modules.base import LMModule
    from modules.strategies import FSDP2Strategy

    timed(FSDP2Strategy, "load_checkpoint")
    timed(SaveProgress, "_save")
    timed(LMModule, "configure_model")
    timed(export, "export_weights")
    return cli.run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
