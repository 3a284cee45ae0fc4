"""What the recipes' tests share: two tiny models, corpora, and plain transformers as the oracle."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import save_tiny_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from promptcot.corpora import Corpus


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The models are so small that threads only wait for each other, long on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Folders of q and p: two random models, of which the first ends a text soon."""
    folder = tmp_path_factory.mktemp("models")
    return str(save_tiny_model(folder / "q", seed=4)), str(save_tiny_model(folder / "p", seed=1))


@pytest.fixture(scope="session")
def plain_logprobs() -> Callable[[str, str, Sequence[int]], list[float]]:
    """Log-probability of each target token after a prompt, by plain eager transformers.

    One token a character, so the prompt's tokens are its character codes; the end token is 0.
    """

    @cache
    def load(folder: str) -> PreTrainedModel:
        return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")

    def logprobs(folder: str, prompt: str, target: Sequence[int]) -> list[float]:
        tokens = [*map(ord, prompt), *target]
        with torch.inference_mode():
            table = load(folder)(torch.tensor([tokens])).logits[0].log_softmax(-1)
        return [table[i - 1, tokens[i]].item() for i in range(len(prompt), len(tokens))]

    return logprobs


@pytest.fixture
def write_corpus(tmp_path: Path) -> Callable[..., Corpus]:
    """Writes rows to a JSONL file of their own and names it."""

    def write(rows: Sequence[Mapping[str, Any]], name: str = "corpus") -> Corpus:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return Corpus(str(path))

    return write
