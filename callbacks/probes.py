"""What the trainer makes of a few sequences, for a comparison with an engine."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, cast

from lightning.pytorch import Trainer

from promptcot.batches import pack
from promptcot.freshness import Probe
from promptcot.protocols import ScoreRequest
from promptcot.tokens import Example, encode

TARGET_TOKENS = 128
"""Of a target that are compared: it is to cost next to nothing."""


def trainer_probes(
    trainer: Trainer,
    requests: Sequence[ScoreRequest],
    weights: str,
    before: Sequence[Probe] = (),
) -> list[Probe]:
    """The requests, scored by the policy as it is. Every rank must call this.

    Args:
        trainer: With the policy.
        requests: What is to be scored, each by the first tokens of its target.
        weights: Folder of the policy's tokenizer.
        before: The probes of the last export.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights, trust_remote_code=False)
    encoded = [encode(tokenizer, request.prompt, request.target) for request in requests]
    module = cast(Any, trainer.lightning_module)
    known = {(probe.prompt, probe.target): probe.logprobs for probe in before}
    probes = []
    for request, example in zip(requests, encoded, strict=True):
        kept = example.target[:TARGET_TOKENS]
        [segments] = module.score(pack([Example(example.prompt, kept, (len(kept),))]))
        previous = known.get((request.prompt, kept), ())
        logprobs = tuple(chain.from_iterable(segments))
        probes.append(Probe(request.prompt, kept, logprobs, previous))
    return probes
