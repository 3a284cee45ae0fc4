"""Weights that differ are named apart, wherever they differ."""

from __future__ import annotations

import pytest

from promptcot.fingerprints import EDGE, SAMPLE, SAMPLES, weights_fingerprint


@pytest.mark.parametrize(
    ("size", "changed"),
    [
        (10, 1),
        (EDGE + 1, 1),
        (2 * EDGE, 1),
        (2 * EDGE + SAMPLES * SAMPLE, 1),
        (2 * EDGE + 4 * SAMPLES * SAMPLE, 4 * SAMPLE),
    ],
)
def test_weights_that_differ_anywhere_are_other_weights(tmp_path, size, changed):
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(size))
    names = {weights_fingerprint(str(tmp_path))}
    places = sorted({0, size // 3, size // 2, 2 * size // 3, size - changed})
    for place in places:
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"\1" * changed)
        names.add(weights_fingerprint(str(tmp_path)))
        path.write_bytes(bytes(size))
    assert len(names) == 1 + len(places)
    assert weights_fingerprint(str(tmp_path)) in names
