"""The loss of preference pairs and its gradient, by our functions and by TRL's DPOTrainer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from tiny import save_tiny_model
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from modules import Preference
from promptcot.likelihood import TargetLogprobs, load_causal_lm
from promptcot.pairs import Pair, pack_pairs, with_reference
from promptcot.protocols import Target
from promptcot.tokens import Example, encode

pytestmark = pytest.mark.skipif(
    find_spec("trl") is None, reason="TRL is not installed: make test installs it"
)

TOLERANCE = 1e-5  # relative
VISIBLE = 1e-2  # relative; what a mistake moves of the gradient at least
PAIRS = [  # prompt, chosen, rejected
    ("What is 2 + 2?\n", "It is 4.", "Two and two make twenty-two, as anyone can see."),
    ("Name a prime above 10.\n", "Take 11, which 2, 3, 5 and 7 do not divide.", "12"),
    ("?", "!", "none"),
    ("Is 91 prime? Explain in a sentence.\n", "No: 91 = 7 * 13.", "Yes, it looks like one."),
    ("x^2 = 9, so x is\n", "3 or -3", "3"),
]


@dataclass(frozen=True)
class Variant:
    """One loss under both names."""

    ours: Preference
    theirs: dict[str, Any]  # of DPOConfig, beside beta
    at_once: int = len(PAIRS)  # pairs of one call of theirs


VARIANTS = {
    "sigmoid": Variant(Preference(), {"loss_type": ["sigmoid"]}),
    "sigmoid with a large beta": Variant(Preference(beta=0.5), {"loss_type": ["sigmoid"]}),
    # Their sigmoid takes no label smoothing. Theirs that does sorts the pairs of a batch by how
    # they are liked: of a single pair it is conservative DPO.
    "conservative": Variant(
        Preference(label_smoothing=0.2), {"loss_type": ["aot"], "label_smoothing": 0.2}, at_once=1
    ),
    "robust": Variant(
        Preference("robust", label_smoothing=0.2), {"loss_type": ["robust"], "label_smoothing": 0.2}
    ),
    "hinge": Variant(Preference("hinge", beta=0.25), {"loss_type": ["hinge"]}),
    # A larger beta puts IPO's aim, 1 / (2 beta), among the margins: pairs pull against one another,
    # and what is left of the gradient is no more exact than TOLERANCE in float32, ours or theirs.
    "ipo": Variant(Preference("ipo", beta=0.2, length_normalised=True), {"loss_type": ["ipo"]}),
    "sigmoid of means": Variant(
        Preference(beta=2.0, length_normalised=True), {"loss_type": ["sigmoid_norm"]}
    ),
    "sigmoid and likelihood": Variant(
        Preference(nll_weight=0.3), {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.3]}
    ),
    "hinge and likelihood": Variant(
        Preference("hinge", beta=0.25, nll_weight=1.0), {"loss_type": ["hinge", "sft"]}
    ),
}
variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)

Gradients = dict[str, Tensor]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of the policy and of a reference with other weights."""
    folder = tmp_path_factory.mktemp("dpo")
    return save_tiny_model(folder / "policy"), save_tiny_model(folder / "reference", seed=1)


@pytest.fixture(autouse=True)
def _only_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """TRL sets environment variables and reports to its makers: neither leaves this test."""
    with patch.dict(os.environ):
        from trl import DPOTrainer  # seconds to import

        monkeypatch.setattr(DPOTrainer, "_send_telemetry", lambda self: None)
        yield


def by_trl(
    variant: Variant, models: tuple[Path, Path], folder: Path
) -> tuple[float, Gradients, list[dict[str, list[int]]]]:
    """Their loss, its gradient, and the token ids of each pair."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    policy, reference = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in models
    )
    trainer = DPOTrainer(
        policy,
        reference,
        DPOConfig(
            output_dir=str(folder),
            beta=variant.ours.beta,
            bf16=False,
            use_cpu=True,
            report_to="none",
            gradient_checkpointing=False,
            **variant.theirs,
        ),
        train_dataset=Dataset.from_list(
            [dict(zip(("prompt", "chosen", "rejected"), pair, strict=True)) for pair in PAIRS]
        ),
        processing_class=AutoTokenizer.from_pretrained(models[0]),
    )
    trainer.model.train()
    rows = [trainer.train_dataset[number] for number in range(len(PAIRS))]
    total = 0.0
    for start in range(0, len(rows), variant.at_once):
        batch = trainer.data_collator(rows[start : start + variant.at_once])
        loss = trainer.compute_loss(trainer.model, batch) * variant.at_once / len(rows)
        loss.backward()
        total += float(loss.detach())
    return total, gradients(trainer.model), rows


def by_us(
    loss: Preference, models: tuple[Path, Path], examples: list[Example]
) -> tuple[float, Gradients]:
    """Our loss and its gradient; of each pair the chosen example comes first."""
    pairs = [Pair(*examples[n : n + 2]) for n in range(0, len(examples), 2)]
    policy, reference = (
        TargetLogprobs(load_causal_lm(str(path), torch.float32)) for path in models
    )
    with torch.no_grad():
        logprobs = reference(pack_pairs(pairs).sequences)
    batch = pack_pairs(with_reference(pairs, logprobs.tolist()))
    values, _ = loss.losses(policy.train()(batch.sequences), batch)
    value = values.sum() / batch.sequences.denominator
    value.backward()
    return float(value.detach()), gradients(policy.lm)


def gradients(model: torch.nn.Module) -> Gradients:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def our_examples(model: Path) -> list[Example]:
    tokenizer = AutoTokenizer.from_pretrained(model)
    return [
        encode(tokenizer, prompt, Target(((completion,),)))
        for prompt, *completions in PAIRS
        for completion in completions
    ]


def furthest(ours: Gradients, theirs: Gradients) -> float:
    """The largest difference of an element, as a part of its parameter's largest gradient."""
    assert ours.keys() == theirs.keys()
    return max(
        float((ours[name] - gradient).abs().max() / gradient.abs().max())
        for name, gradient in theirs.items()
    )


def with_prompt(example: Example) -> Example:
    """The same sequence, its prompt taken for a part of the completion."""
    first, *target = example.tokens
    return Example((first,), tuple(target), (len(target),))


def without_end(example: Example) -> Example:
    """The same sequence but for the end token."""
    target = example.target[:-1]
    return Example(example.prompt, target, (len(target),))


@variants
def test_loss_and_gradient_are_those_of_trl(
    variant: Variant, models: tuple[Path, Path], tmp_path: Path
):
    theirs, their_gradients, rows = by_trl(variant, models, tmp_path)
    examples = our_examples(models[0])
    their_ids = [
        (row["prompt_ids"], row[name]) for row in rows for name in ("chosen_ids", "rejected_ids")
    ]
    assert [(list(example.prompt), list(example.target)) for example in examples] == their_ids

    ours, our_gradients = by_us(variant.ours, models, examples)
    assert ours == pytest.approx(theirs, rel=TOLERANCE)
    assert furthest(our_gradients, their_gradients) < TOLERANCE

    for mistake, loss, wrong in mistakes(variant.ours, examples):
        ours, our_gradients = by_us(loss, models, wrong)
        assert ours != pytest.approx(theirs, rel=10 * TOLERANCE), mistake
        assert furthest(our_gradients, their_gradients) > VISIBLE, mistake


def mistakes(
    loss: Preference, examples: list[Example]
) -> Iterator[tuple[str, Preference, list[Example]]]:
    """What the comparison must see: the mistake, and what is given to our side instead."""
    yield "beta", replace(loss, beta=1.1 * loss.beta), examples
    unmasked = [with_prompt(example) for example in examples]
    yield "a prompt unmasked", loss, [*examples[:6], unmasked[6], *examples[7:]]
    if loss.length_normalised or loss.nll_weight:  # else it is the same on both sides of a margin
        yield "all prompts unmasked", loss, unmasked
    yield "no end token", loss, [without_end(example) for example in examples]
    yield "normalisation", replace(loss, length_normalised=not loss.length_normalised), examples
    if loss.label_smoothing:
        yield "label smoothing", replace(loss, label_smoothing=0.0), examples
    if loss.nll_weight:
        yield "likelihood", replace(loss, nll_weight=0.0), examples
