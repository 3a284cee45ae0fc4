"""The best weights so far: kept, exchanged for better ones, never lost."""

import os
import shutil

import pytest

from promptcot.best_weights import BestWeights
from promptcot.store import read_json


def exported(folder, number):
    weights = folder / f"weights-{number}"
    weights.mkdir()
    (weights / "model").write_text(str(number))
    return weights


def kept(folder):
    number = read_json(folder / "best" / "round.json")["round"]
    assert (folder / "best" / "model").read_text() == str(number)
    return number


def test_the_first_and_then_only_better_ones_are_kept(tmp_path):
    best = BestWeights(tmp_path / "best")
    assert "no round's weights are kept" in str(best)
    found = []
    for number, pass_rate in enumerate((0.25, 0.5, 0.5, 0.125, 0.75)):
        best.offer(exported(tmp_path, number), number, pass_rate)
        found.append(kept(tmp_path))
    assert found == [0, 1, 1, 1, 4]
    assert (tmp_path / "weights-2").exists()  # whoever exported it removes it
    assert best.pass_rate == 0.75
    assert "the best round so far is 4, of whose attempts 75.0% passed" in str(best)


def test_weights_that_were_offered_before_and_are_gone_change_nothing(tmp_path):
    best = BestWeights(tmp_path / "best")
    best.offer(exported(tmp_path, 0), 0, 0.5)
    best.offer(tmp_path / "weights-0", 0, 0.5)
    best.offer(tmp_path / "weights-1", 1, 0.75)
    assert kept(tmp_path) == 0


class CrashError(Exception):
    """Of a test."""


@pytest.mark.parametrize("survived", range(4))
def test_a_crash_before_any_rename_leaves_the_old_or_the_new(tmp_path, monkeypatch, survived):
    best = BestWeights(tmp_path / "best")
    best.offer(exported(tmp_path, 0), 0, 0.25)
    weights = exported(tmp_path, 1)
    replace, done = os.replace, []

    def crashing(source, target):
        if len(done) == survived:
            raise CrashError
        done.append(source)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crashing)
        # of the record in the folder, of the new weights aside, of the old ones, of the new ones
        with pytest.raises(CrashError):
            best.offer(weights, 1, 0.5)
    best.offer(weights, 1, 0.5)
    assert kept(tmp_path) == 1
    shutil.rmtree(weights, ignore_errors=True)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
