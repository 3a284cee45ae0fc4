"""Settings of the trainer with which a step would not be the one that is asked for."""

from __future__ import annotations

from lightning.pytorch import Trainer


def check_steps(trainer: Trainer) -> None:
    """Refuse steps of no micro-batch, and a limit of the gradient that would turn it round.

    Raises:
        ValueError: One is asked for.
    """
    if trainer.accumulate_grad_batches < 1:
        raise ValueError(
            f"trainer.accumulate_grad_batches={trainer.accumulate_grad_batches}: a step has at "
            "least 1 micro-batch"
        )
    limit = trainer.gradient_clip_val
    if limit is not None and not limit >= 0:  # a negative one would be a factor of the gradient
        raise ValueError(
            f"trainer.gradient_clip_val={limit}: it must be 0 or more; 1.0 is usual, and "
            "null is no clipping"
        )


def check_whole(trainer: Trainer) -> None:
    """Refuse an epoch whose last step lacks micro-batches, for they were planned as one mean.

    Raises:
        ValueError: ``limit_train_batches`` or ``overfit_batches`` cuts a step.
    """
    batches, accumulate = int(trainer.num_training_batches), trainer.accumulate_grad_batches
    is_trial = trainer.fast_dev_run  # type: ignore[attr-defined]
    if batches % accumulate and not is_trial:
        raise ValueError(
            f"{batches} micro-batches an epoch end within a step of {accumulate}: set "
            "trainer.limit_train_batches (or overfit_batches) to a multiple of "
            "trainer.accumulate_grad_batches"
        )
