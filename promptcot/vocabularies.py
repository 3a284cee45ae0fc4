"""Whether two models mean the same by a token id."""

from __future__ import annotations

from pathlib import Path

from promptcot.adapters import tokenizer_folder
from promptcot.fingerprints import tokenizer_fingerprint


def check_same_vocabulary(first: str, second: str) -> None:
    """Refuse two folders of weights between which token ids cannot be handed over.

    Ids of another vocabulary would be scored without a word, as some other text. Models that are
    no folders, such as a server's, are taken on trust.

    Raises:
        ValueError: Their tokenizers name tokens differently.
    """
    if not all(Path(tokenizer_folder(weights)).is_dir() for weights in (first, second)):
        return
    if tokenizer_fingerprint(first) == tokenizer_fingerprint(second):
        return
    from transformers import AutoTokenizer

    found = [
        AutoTokenizer.from_pretrained(tokenizer_folder(weights), trust_remote_code=False)
        for weights in (first, second)
    ]
    if found[0].get_vocab() != found[1].get_vocab():
        raise ValueError(
            f"{first} and {second} have different tokenizers, so that token ids of the one are "
            "other words of the other: give two models that were trained from the same one"
        )
