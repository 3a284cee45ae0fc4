"""What ``cli.py predict`` leaves: the log-probability of every row."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from promptcot.protocols import SegmentLogprobs


class WritePredictions(Callback):
    """Writes ``predictions-RANK.jsonl``: id, nats and tokens of each row's target, by segment.

    Files that more ranks have left there before are removed.

    The segments are the rationale and the problem for the prompt model, the rationale alone for
    the rationale model; all with their tags and end token.
    """

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        name = f"predictions-{trainer.global_rank}.jsonl"
        self.path = Path(trainer.default_root_dir) / name
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if trainer.is_global_zero:
            ours = {f"predictions-{rank}.jsonl" for rank in range(trainer.world_size)}
            for other in self.path.parent.glob("predictions-*.jsonl"):
                if other.name not in ours:
                    other.unlink()
        self.path.write_bytes(b"")
        self.order = iter(trainer.predict_dataloaders.indices)  # type: ignore[union-attr]

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        ids = trainer.datamodule.held_out_ids  # type: ignore[attr-defined]
        with open(self.path, "a", encoding="utf-8") as file:
            file.writelines(_line(ids[next(self.order)], segments) for segments in outputs)


def _line(name: str, segments: SegmentLogprobs) -> str:
    nats, tokens = [math.fsum(s) for s in segments], [len(s) for s in segments]
    return json.dumps({"id": name, "nats": nats, "tokens": tokens}) + "\n"
