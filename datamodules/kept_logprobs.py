"""Log-probabilities of rows under the policy as it is when they arrive, kept for the whole round.

They are what a ratio is to: of the policy that sampled, or of DPO's reference. The policy moves on
from the first step, so a resumed fit must read what was computed before.
"""

from __future__ import annotations

import os
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from lightning.pytorch import LightningDataModule, Trainer
from safetensors.torch import load_file, save_file

from datamodules.packed import EvaluationBatches
from promptcot.fingerprints import fingerprint
from promptcot.ranks import on_rank_0


class KeptLogprobs:
    """Computed by the trainer's own forward pass, once, and on disk from then on."""

    def __init__(self) -> None:
        self.name = ""
        """Of those that the fit trains with now; a checkpoint holds it."""

    def of(
        self,
        trainer: Trainer,
        folder: Path,
        name: str,
        batches: EvaluationBatches,
    ) -> torch.Tensor:
        """Of all target tokens, end to end, [N] float32, in nats; every rank must call this.

        Args:
            trainer: With the policy.
            folder: Where they are kept, under a hash of ``name`` and of how they are computed.
            name: Tells sequences and weights apart from all others.
            batches: Of the sequences, in the order of the result.

        Raises:
            RuntimeError: They could not be written.
            FileNotFoundError: They are gone, and a resumed policy has moved on since.
        """
        name = fingerprint([name, *_arithmetic(trainer)])
        path = folder / f"{name}.safetensors"
        if not trainer.strategy.broadcast(path.exists()):
            if name == self.name:
                raise FileNotFoundError(
                    f"{path} is gone: the log-probabilities of the policy before it was trained on "
                    "these rows, which it cannot tell any more; restore the file, or start anew"
                )
            found = scored(trainer, batches)
            on_rank_0(f"{path} was not written", partial(_write, found, path))
        self.name = name
        return load_file(path)["logprobs"]


class KeepsLogprobs(LightningDataModule):
    """A data module whose rows have log-probabilities that a resumed fit reads again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.kept = KeptLogprobs()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "logprobs": self.kept.name}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.kept.name = state_dict["logprobs"]


def _arithmetic(trainer: Trainer) -> list[str]:
    """What else decides the log-probabilities of given weights: in what they are computed."""
    adapter = cast(Any, trainer.lightning_module).adapter
    return [str(trainer.precision), adapter.base if adapter is not None else "float32"]


def _write(found: torch.Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".partial")
    save_file({"logprobs": found}, part)
    os.replace(part, path)


def scored(trainer: Trainer, batches: EvaluationBatches) -> torch.Tensor:
    """Log-probabilities of all targets under the policy as it is, by all ranks together."""
    module = cast(Any, trainer.lightning_module)
    segments = list(chain.from_iterable(module.score(batch) for batch in batches))
    mine = dict(zip(batches.indices, segments, strict=True))
    parts = [mine] * trainer.world_size
    if trainer.world_size > 1:
        dist.all_gather_object(parts, mine)
    found = {index: segments for part in parts for index, segments in part.items()}
    values = [value for index in sorted(found) for segment in found[index] for value in segment]
    return torch.tensor(values, dtype=torch.float32)
