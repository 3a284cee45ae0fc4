"""An engine that is kept: the same answers as one that is opened anew, and YAML can name it."""

from __future__ import annotations

from contextlib import closing
from functools import partial

import pytest
from tiny import save_tiny_model

from promptcot.configs import to_config
from promptcot.engines import HFEngine, KeptEngine, ScriptedEngine
from promptcot.protocols import Engine, Request, Sampling, ScoreRequest, Target
from promptcot.recipes import Annotate, Rationales

OPEN = partial(HFEngine, dtype="float32", device="cpu")
REQUESTS = [ScoreRequest("hello", Target(((" you",),)))]


class Swapping(ScriptedEngine):
    """Takes other weights if their names begin alike, and writes down what happens to it."""

    def __init__(self, weights: str, log: list[str], frees: bool = False) -> None:
        super().__init__(weights)
        self.log = log
        self.frees = frees
        log.append(f"open {weights}")

    def can_reload(self, weights: str) -> bool:
        return weights[0] == self.weights[0]

    def reload(self, weights: str) -> None:
        if weights.endswith("broken"):
            raise RuntimeError("broken")
        self.weights = weights
        self.log.append(f"reload {weights}")

    def sleep(self) -> bool:
        self.log.append("sleep")
        return self.frees

    def close(self) -> None:
        self.log.append("close")


@pytest.fixture
def log():
    return []


@pytest.fixture
def kept(log):
    with closing(KeptEngine(partial(Swapping, log=log))) as kept:
        yield kept


def test_transformers_is_opened_anew_on_each_folder_with_the_right_results(tiny_model, tmp_path):
    folders = [str(tiny_model), str(save_tiny_model(tmp_path, seed=1)), str(tiny_model)]
    with closing(KeptEngine(OPEN)) as kept:
        for folder in folders:
            with closing(kept(folder)) as lent, closing(OPEN(folder)) as new:
                assert isinstance(lent, Engine)
                assert list(lent.score(REQUESTS)) == list(new.score(REQUESTS))


def test_it_is_opened_once_and_sleeps_in_between(kept, log):
    for weights in ("q0", "q1", "q1"):
        kept(weights).close()
    kept.close()
    kept.close()
    assert log == [
        *("open q0", "sleep"),
        *("reload q1", "sleep"),
        *("reload q1", "sleep"),  # read again: nobody knows what happened to the folder
        "close",
    ]


def test_weights_of_another_architecture_are_an_end_and_a_beginning(kept, log):
    kept("q").close()
    kept("p").close()
    assert log == ["open q", "sleep", "close", "open p", "sleep"]


def test_engines_that_free_their_memory_sleep_beside_each_other(log):
    with closing(KeptEngine(partial(Swapping, log=log, frees=True))) as kept:
        for weights in ("q0", "p0", "q1", "p1"):
            kept(weights).close()
    assert log == [
        *("open q0", "sleep", "open p0", "sleep"),
        *("reload q1", "sleep", "reload p1", "sleep"),
        *("close", "close"),
    ]


def test_weights_that_cannot_be_loaded_end_it_and_the_next_ones_begin_anew(kept, log):
    kept("q").close()
    with pytest.raises(RuntimeError, match="broken"):
        kept("q-broken")
    assert log[-1] == "close"
    kept("q2").close()
    assert log[-2:] == ["open q2", "sleep"]


def test_an_engine_that_died_is_ended_and_hides_no_error(log, caplog):
    class Dead(Swapping):
        def sleep(self) -> bool:
            raise RuntimeError("the process is gone")

    with (
        closing(KeptEngine(partial(Dead, log=log))) as kept,
        pytest.raises(KeyError, match="the first cause"),
        closing(kept("q0")),
    ):
        raise KeyError("the first cause")
    assert log == ["open q0", "close"]
    assert "could not be put to sleep and was ended: the process is gone" in caplog.text


def test_one_user_at_a_time_and_none_after_closing(kept):
    lent = kept("q0")
    with pytest.raises(RuntimeError, match="still in use on q0: close what was opened there"):
        kept("q1")
    lent.close()
    lent.close()
    with pytest.raises(RuntimeError, match="is not on q0 any more: open it again"):
        lent.generate([Request("a")], Sampling())
    kept("q1")


def test_keeping_an_engine_decides_nothing_of_what_it_answers():
    kept = KeptEngine(OPEN)
    assert to_config(kept, deciding=True) == to_config(OPEN, deciding=True)
    assert to_config(kept)["init_args"] == {"engine": to_config(OPEN)}
    assert to_config(kept)["class_path"] == "promptcot.engines.KeptEngine"


def test_the_end_of_a_fit_is_its_end(kept, log):
    from callbacks import RefreshTrainingSet

    callback = RefreshTrainingSet(Rationales("q", engine=kept, sampling=Sampling(temperature=0.0)))
    kept("q0").close()
    callback.teardown(None, None, "fit")
    assert log[-1] == "close"
    RefreshTrainingSet(Annotate(engine=HFEngine)).teardown(None, None, "fit")
