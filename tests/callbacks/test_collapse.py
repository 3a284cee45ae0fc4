"""Alarms of self-play in real fits on rounds whose figures are known."""

import json

import pytest
import torch
import yaml
from collapsing import Collapsing, Hardenable, Seen, data
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from quiet_fit import quiet_trainer
from refreshed_fit import data_flags, fit, killed_at
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import FIT

from callbacks import CollapseAlarms, ExportWeights, RefreshTrainingSet, SaveProgress
from callbacks.collapse import CHOSEN_LOGGED
from modules import EStepModule
from promptcot.collapse import CollapseLimits
from promptcot.store import read_manifest, read_round

# Of 4 problems, attempts out of 8 that passed. The third round solves all but one mostly.
PASSED = ((2, 2, 2, 2), (4, 3, 4, 3), (8, 5, 5, 3), (4, 4, 4, 4))
DISTINCT = (0.8, 0.75, 0.7, 0.6)


def module(weights, chosen=()):
    """The module, which logs the chosen solutions' log-ratio of each step where it is given."""

    class Logging(EStepModule):
        def training_step(self, batch, batch_idx):
            if chosen:
                self.log(CHOSEN_LOGGED, chosen[self.trainer.global_step])
            return super().training_step(batch, batch_idx)

    return Logging(str(weights))


def trained(root, weights, alarms, recipe, *, chosen=(), seen=None, **settings):
    """A fit of four rounds, of two steps each; returns the trainer and what it trained on."""
    seed_everything(1, verbose=False)
    seen, progress = seen or Seen(), SaveProgress(every_n_steps=1)
    plain = {"seed_everything": 1, "model": {}, "data": {}, "trainer": {}}
    checkpoint = progress.resume(root, plain)
    trainer = quiet_trainer(
        root,
        max_epochs=4,
        reload_dataloaders_every_n_epochs=1,
        logger=TensorBoardLogger(root, name=None, version="log"),
        log_every_n_steps=1,
        callbacks=[alarms, RefreshTrainingSet(recipe), seen, ExportWeights(), progress],
        **settings,
    )
    trainer.fit(module(weights, chosen), data(weights), ckpt_path=checkpoint)
    return trainer, seen


def logged(root, name):
    events = EventAccumulator(str(root / "log")).Reload()
    return [(event.step, event.value) for event in events.Scalars(f"alarms/{name}")]


def test_a_warning_is_a_sentence_and_a_number_and_the_fit_goes_on(tmp_path, tiny_model, caplog):
    _, seen = trained(tmp_path, tiny_model, CollapseAlarms(), Collapsing(PASSED, DISTINCT))
    assert seen.epochs == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [m for m in caplog.messages if m.startswith("round")] == [
        "round 2: more than half of the rollouts pass for 75.0% of the problems (limit 50.0%): "
        "little is left to learn"
    ]
    assert logged(tmp_path, "mostly_solved") == [(0, 0), (2, 0), (4, 1), (6, 0)]
    assert logged(tmp_path, "distinct_4") == [(2, 0), (4, 0), (6, 0)]
    # falls of 4, 1, 1, -1 eighths: a mean of 0.16, less than twice the error of 0.13
    assert logged(tmp_path, "pass_rate") == [(2, 0), (4, 0), (6, 0)]
    assert not (tmp_path / "rounds" / "best").exists()


def test_after_an_alarm_rounds_are_harder_and_leave_out_what_was_solved(tmp_path, tiny_model):
    # round 1: two of four are mostly solved; round 2: all; round 3: half
    passed = ((2, 2, 2, 2), (8, 8, 8, 2), (8, 8, 8, 2), (0, 0, 0, 2))
    alarms = CollapseAlarms(action="raise_difficulty")
    trained(tmp_path, tiny_model, alarms, Hardenable(passed, (0.8, 0.8, 0.4, 0.4)))
    rounds = [tmp_path / "rounds" / f"round-{number}" for number in range(4)]
    settings = [read_manifest(folder)["settings"] for folder in rounds]
    # round 2 is harder than round 1, so that its diversity is not compared, and has no alarm
    assert [s["temperature"] for s in settings] == [1.0, 1.0, 1.1, 1.1]
    assert [s["left_out"] for s in settings] == [[], [], ["p0", "p1", "p2"], []]
    assert [row["id"] for row in read_round(rounds[2], "attempts")] == ["p3"]


def test_a_stop_ends_the_fit_before_the_round_and_keeps_the_best(tmp_path, tiny_model, caplog):
    distinct = (0.8, 0.8, 0.8, 0.2)
    passed = ((2, 2, 2, 2), (4, 4, 4, 4), (3, 3, 3, 3), (4, 4, 4, 4))
    limits = CollapseLimits(max_pass_rate_fall=None)
    recipe = Collapsing(passed, distinct)
    trainer, seen = trained(tmp_path, tiny_model, CollapseAlarms(limits, "stop"), recipe)
    assert seen.epochs == [0, 0, 1, 1, 2, 2]
    assert (trainer.current_epoch, trainer.global_step) == (3, 6)
    best = tmp_path / "rounds" / "best"
    assert caplog.messages[-1] == (
        "the fit ends before it trains on round 3; the best round so far is 1, of whose attempts "
        f"50.0% passed; the weights that made it are kept in {best}"
    )
    assert not (tmp_path / "progress").exists()
    assert not list((tmp_path / "rounds").glob("weights-*"))
    # what was trained is exported; the best can be trained on
    state = trainer.lightning_module.policy.lm.state_dict()
    for name, value in load_file(tmp_path / "weights" / "model.safetensors").items():
        assert torch.equal(value, state[name])
    # given once more, the fit says so again and leaves all as it is
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    with pytest.raises(ValueError, match="ended before it trained on round 3, because the share"):
        trained(tmp_path, tiny_model, CollapseAlarms(limits, "stop"), recipe)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")} == files
    _, again = trained(tmp_path / "on", best, CollapseAlarms(), recipe)
    assert again.epochs


def test_a_stop_in_the_first_round_trains_nothing(tmp_path, tiny_model):
    recipe = Collapsing(((8, 8, 8, 8),), (0.5,))
    trainer, seen = trained(tmp_path, tiny_model, CollapseAlarms(action="stop"), recipe)
    assert (seen.epochs, trainer.global_step) == ([], 0)
    with pytest.raises(ValueError, match="ended before it trained on round 0, because more than"):
        trained(tmp_path, tiny_model, CollapseAlarms(action="stop"), recipe)
    # with other limits it is no stop any more
    limits = CollapseLimits(max_mostly_solved=None)
    recipe = Collapsing(((8, 8, 8, 8),) * 4, DISTINCT)
    _, seen = trained(tmp_path, tiny_model, CollapseAlarms(limits, "stop"), recipe)
    assert seen.epochs == [0, 0, 1, 1, 2, 2, 3, 3]


RATIOS = (0.0, 0.0, -0.08, -0.16, -0.05, -0.1, 0.0, 0.0)
"""Of eight steps. The second round's mean is -0.12, the third's -0.075."""


def chosen_on_disk(root):
    found = [root / "rounds" / f"trained-{number}.json" for number in range(4)]
    return [json.loads(path.read_text())["chosen_log_ratio"] for path in found if path.exists()]


def test_a_round_that_pushed_the_chosen_down_is_told_at_the_next(tmp_path, tiny_model, caplog):
    flat = Collapsing(PASSED[:2] + PASSED[1:2] * 2, DISTINCT)
    trained(tmp_path, tiny_model, CollapseAlarms(), flat, chosen=RATIOS)
    assert chosen_on_disk(tmp_path) == pytest.approx([0.0, -0.12, -0.075, 0.0])
    assert logged(tmp_path, "chosen_log_ratio") == [(2, 0), (4, 1), (6, 0)]
    [sentence] = [m for m in caplog.messages if m.startswith("round")]
    assert sentence.startswith("round 2: the chosen solutions' log-probability fell to 0.120")


class CutOffError(Exception):
    """Of a test."""


class CutOff(Seen):
    """Ends a fit as a crash would, before a step."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 3:
            raise CutOffError


def test_a_resumed_fit_has_the_mean_of_the_whole_epoch_and_tells_no_alarm_twice(
    tmp_path, tiny_model, caplog
):
    flat = Collapsing(((8, 8, 8, 8), *PASSED[1:2] * 3), DISTINCT)
    with pytest.raises(CutOffError):
        trained(tmp_path, tiny_model, CollapseAlarms(), flat, chosen=RATIOS, seen=CutOff())
    _, seen = trained(tmp_path, tiny_model, CollapseAlarms(), flat, chosen=RATIOS)
    assert seen.epochs == [1, 2, 2, 3, 3]
    assert chosen_on_disk(tmp_path) == pytest.approx([0.0, -0.12, -0.075, 0.0])
    told = [m.split(":")[0] for m in caplog.messages if m.startswith("round")]
    assert told == ["round 0", "round 1", "round 2"]


class CutOffAtEnd(Seen):
    """Ends a fit as a crash would, once it has stopped and before it exports."""

    def on_train_end(self, trainer, pl_module):
        raise CutOffError


def test_a_stop_that_was_cut_off_before_the_export_is_finished(tmp_path, tiny_model, caplog):
    recipe = Collapsing(PASSED, DISTINCT)
    with pytest.raises(CutOffError):
        trained(tmp_path, tiny_model, CollapseAlarms(action="stop"), recipe, seen=CutOffAtEnd())
    assert not (tmp_path / "weights").exists()
    trainer, seen = trained(tmp_path, tiny_model, CollapseAlarms(action="stop"), recipe)
    assert (seen.epochs, trainer.global_step) == ([], 4)
    assert caplog.messages[-1].startswith("the fit ends before it trains on round 2; the best")
    assert (tmp_path / "weights").exists()
    assert not (tmp_path / "progress").exists()


def test_what_cannot_work_is_said_before_the_fit(tmp_path, tiny_model):
    recipe = Collapsing(PASSED, DISTINCT)
    with pytest.raises(ValueError, match="which Collapsing cannot: set action to warn or stop"):
        trained(tmp_path, tiny_model, CollapseAlarms(action="raise_difficulty"), recipe)
    with pytest.raises(ValueError, match=r"before trainer\.min_epochs=2"):
        trained(tmp_path, tiny_model, CollapseAlarms(action="stop"), recipe, min_epochs=2)
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=[CollapseAlarms()], max_epochs=1)
    with pytest.raises(ValueError, match="add RefreshTrainingSet to trainer"):
        trainer.fit(module(tiny_model), data(tiny_model))


def stopping(start, weights):
    """Arguments of a fit that stops before its third round."""
    recipe = {
        "class_path": "collapsing.Collapsing",
        "init_args": {
            "passed": [list(row) for row in PASSED],
            "distinct": list(DISTINCT),
        },
    }
    alarms = {"action": "stop", "limits": {"max_entropy_fall": None, "max_mostly_solved": 0.6}}
    callbacks = [
        {"class_path": "callbacks.CollapseAlarms", "init_args": alarms},
        {"class_path": "callbacks.RefreshTrainingSet", "init_args": {"recipe": recipe}},
    ]
    more = {"max_epochs": 4, "reload_dataloaders_every_n_epochs": 1, "callbacks": callbacks}
    overlay = start / "stop.yaml"
    trainer = {**FIT["trainer"], "accumulate_grad_batches": 1, **more}
    overlay.write_text(yaml.safe_dump({**FIT, "trainer": trainer}))
    configs = ("--config", "configs/e_step.yaml", "--config", str(overlay))
    return [*configs, *data_flags(weights, start)]


@pytest.mark.slow
def test_two_processes_stop_as_one_that_was_killed(tmp_path, tiny_model):
    given = stopping(tmp_path, tiny_model)
    # killed with the round whole that is to stop the fit: nothing is decided yet
    killed_at(tmp_path / "one" / "rounds" / "round-2", given, tmp_path / "one")
    one = fit(given, tmp_path / "one")
    more = ("--trainer.strategy", "ddp", "--trainer.devices", "2")
    two = fit([*given, *more], tmp_path / "two")
    for name, ended in (("one", one), ("two", two)):
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr.count("the fit ends before it trains on round 2") == 1
        assert json.loads((tmp_path / name / "rounds" / "best" / "round.json").read_text()) == {
            "round": 2,
            "pass_rate": 21 / 32,
        }
        assert not (tmp_path / name / "progress").exists()
    of_one, of_two = (load_file(tmp_path / n / "weights/model.safetensors") for n in ("one", "two"))
    for name, value in of_one.items():
        torch.testing.assert_close(of_two[name], value, atol=2e-5, rtol=1e-4)
