"""The learning rate by how much of the fit is done."""

import math
from types import SimpleNamespace

import pytest

from modules import Schedule
from modules.schedules import progress

STEPS = 200


def factors(schedule):
    return [schedule.factor(n / STEPS, (n + 1) / STEPS) for n in range(STEPS)]


def test_a_warm_up_rises_to_one_and_gives_the_first_step_a_rate():
    found = factors(Schedule("constant", warmup=0.1))
    assert found[:20] == pytest.approx([n / 20 for n in range(1, 21)])
    assert set(found[20:]) == {1.0}
    assert set(factors(Schedule("constant", warmup=0.0))) == {1.0}


def test_cosine_and_linear_fall_from_the_warm_ups_end_to_the_floor():
    cosine = Schedule("cosine", warmup=0.2, floor=0.1)
    assert cosine.factor(0.2, 0.21) == 1.0
    assert cosine.factor(0.6, 0.61) == pytest.approx(0.55)
    assert cosine.factor(0.4, 0.41) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert cosine.factor(1.0, 1.0) == pytest.approx(0.1)
    linear = Schedule("linear", warmup=0.2, floor=0.0)
    assert linear.factor(0.4, 0.41) == pytest.approx(0.75)
    assert linear.factor(1.0, 1.0) == pytest.approx(0.0)
    for schedule in (cosine, linear):
        after = factors(schedule)[40:]
        assert after == sorted(after, reverse=True)


def test_wsd_stays_then_falls():
    wsd = Schedule("wsd", warmup=0.1, floor=0.0, decay=0.25)
    assert {wsd.factor(x, x + 0.01) for x in (0.1, 0.5, 0.75)} == {1.0}
    assert wsd.factor(0.875, 0.88) == pytest.approx(0.5)
    assert wsd.factor(1.0, 1.0) == pytest.approx(0.0)
    assert set(factors(Schedule("wsd", warmup=0.0, decay=0.0))) == {1.0}


def test_a_fit_is_over_at_the_first_of_its_two_ends():
    trainer = SimpleNamespace(
        accumulate_grad_batches=2,
        num_training_batches=20,  # 10 steps
        current_epoch=1,
        global_step=15,
        max_epochs=2,
    )
    for max_steps, before, after in ((-1, 0.75, 0.8), (1000, 0.75, 0.8), (16, 15 / 16, 1.0)):
        trainer.max_steps = max_steps
        assert progress(trainer, batch_idx=10) == pytest.approx((before, after))
    trainer.max_epochs, trainer.max_steps = -1, -1
    with pytest.raises(ValueError, match="needs an end of the fit"):
        progress(trainer, batch_idx=10)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"warmup": 1.5}, "schedule warmup=1.5: it is a share"),
        ({"floor": -0.1}, "schedule floor=-0.1: it is a share"),
        ({"warmup": 1.0}, "take more than the whole fit"),
        ({"shape": "wsd", "warmup": 0.6, "decay": 0.5}, "take more than the whole fit"),
    ],
)
def test_shares_that_are_none_are_named(given, said):
    with pytest.raises(ValueError, match=said):
        Schedule(**given)
