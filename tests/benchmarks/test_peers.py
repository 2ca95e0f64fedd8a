"""Each published rule of the peers fires on a small run that shows its pattern and is silent on one that does not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from benchmarks.false_alarms import SHAPES, healthy_run
from benchmarks.faults.peers import all_peers, rules_named

from unstuck.runs import Run, Series, Setting, Source

CATALOGUE = Path(__file__).resolve().parents[3] / "shared" / "RULES.md"
NAN = float("nan")


def made_up(settings: dict[str, object] | None = None, *, every: int = 100, **series: list[float]) -> Run:
    """A run of one point per epoch of `every` updates; `__` in a name stands for the slash."""
    run = Run("run", "made-up")
    for name, values in series.items():
        name = name.replace("__", "/")
        updates = np.arange(1, len(values) + 1) * every
        run.series[name] = Series(name, updates, np.asarray(values, dtype=np.float64), updates * 0, "run")
    for key, value in (settings or {}).items():
        run.settings[key] = Setting(value, key, Source("run"))
    return run


def falling(points: int = 12, start: float = 2.0, share: float = 0.9) -> list[float]:
    return [start * share**k for k in range(points)]


def alarms(peer: str, run: Run) -> list[str]:
    return all_peers()[peer].check(run)


def test_the_four_peers_are_found_by_their_place():
    assert set(all_peers()) == {"AutoTrainer", "SageMaker Debugger", "UMLAUT", "NaN/plateau alert"}
    assert all(peer.SOURCE and peer.MEANS for peer in all_peers().values())


@pytest.mark.skipif(not CATALOGUE.is_file(), reason="the rule catalogue lies in the shared folder")
def test_every_alarm_counts_as_rules_of_the_catalogue():
    known = set(re.findall(r"^\| [A-Z]{2}\d{3} \| ([a-z-]+) \|", CATALOGUE.read_text(encoding="utf-8"), re.M))
    for peer in all_peers().values():
        assert {rule for rules in peer.MEANS.values() for rule in rules} <= known


@pytest.mark.parametrize("shape", SHAPES)
def test_every_alarm_that_is_raised_has_a_meaning(shape: str):
    run = healthy_run(shape, 1)
    for peer in all_peers().values():
        assert set(peer.check(run)) <= set(peer.MEANS)
        assert set(rules_named(peer, run)) <= {rule for rules in peer.MEANS.values() for rule in rules}


@pytest.mark.parametrize("peer", ["AutoTrainer", "SageMaker Debugger", "UMLAUT", "NaN/plateau alert"])
def test_an_empty_run_and_a_short_clean_run_raise_nothing(peer: str):
    assert alarms(peer, Run("run", "made-up")) == []
    assert alarms(peer, made_up(train__loss=falling(4), val__loss=falling(4, 2.05))) == []


ACCURATE = [0.5, 0.7, 0.8, 0.85, 0.88, 0.9, 0.91, 0.92, 0.93, 0.935, 0.94, 0.945]
SWINGS = [0.7, 0.9] * 6


def classifier(train: list[float], val: list[float] | None = None, **series: list[float]) -> Run:
    losses = {"train__loss": falling(len(train)), "val__loss": falling(len(train), 2.05)}
    return made_up(**{**losses, "train__accuracy": train, "val__accuracy": val or train, **series})


AUTOTRAINER = {
    "a healthy classifier": (classifier(ACCURATE), []),
    "NaN in the loss": (classifier(ACCURATE, train__loss=[*falling(11), NAN]), ["gradient explode"]),
    "a huge validation loss": (classifier(ACCURATE, val__loss=[*falling(11), 2e5]), ["gradient explode"]),
    "accuracy that never gains 0.01": (classifier([0.1, 0.105, 0.108, 0.11] * 3), ["slow convergence"]),
    "low accuracy that gains": (classifier([0.05 * k for k in range(1, 13)]), []),
    "accuracy that swings by 0.2": (classifier(SWINGS), ["oscillating loss"]),
    "accuracy that swings by 0.02": (classifier([0.7, 0.72] * 6), []),
    "first layer starved, low accuracy": (
        classifier([0.1] * 12, grad_norm__preclip__first=[1e-6] * 12, grad_norm__preclip__last=[1.0] * 12),
        ["gradient vanish"],
    ),
    "first layer starved, good accuracy": (
        classifier(ACCURATE, grad_norm__preclip__first=[1e-6] * 12, grad_norm__preclip__last=[1.0] * 12),
        [],
    ),
    "first layer 100 times the last, low accuracy": (
        classifier([0.1] * 12, grad_norm__preclip__first=[100.0] * 12, grad_norm__preclip__last=[1.0] * 12),
        ["gradient explode"],
    ),
    "swings without an accuracy in the log": (made_up(train__loss=[1.0, 2.0] * 6, val__loss=[1.0, 2.0] * 6), []),
}


@pytest.mark.parametrize("case", AUTOTRAINER)
def test_autotrainer(case: str):
    run, expected = AUTOTRAINER[case]
    assert alarms("AutoTrainer", run) == expected


def test_autotrainer_waits_for_three_tenths_of_the_planned_epochs():
    run = classifier([0.1] * 12)
    assert alarms("AutoTrainer", run) == ["slow convergence"]
    run.settings["epochs"] = Setting(100, "epochs", Source("run"))
    assert alarms("AutoTrainer", run) == []


SAGEMAKER = {
    "both losses fall": (made_up(train__loss=falling(8), val__loss=falling(8, 2.05)), []),
    "a loss becomes infinite": (made_up(train__loss=[*falling(4), float("inf")]), ["ExplodingTensor"]),
    "a norm that proves a mean below 1e-7": (
        made_up({"parameters": 10**8}, train__loss=falling(4), grad_norm__preclip=[1.0, 0.5, 0.1, 9e-4]),
        ["VanishingGradient"],
    ),
    "a small norm of few parameters": (
        made_up({"parameters": 10**4}, train__loss=falling(4), grad_norm__preclip=[1.0, 0.5, 0.1, 9e-4]),
        [],
    ),
    "updates larger than ten times the weights": (
        made_up(train__loss=falling(4), update_ratio__core=[1e-3, 11.0, 1e-3, 1e-3]),
        ["WeightUpdateRatio"],
    ),
    "usual updates": (made_up(train__loss=falling(4), update_ratio__core=[1e-3] * 4), []),
    "a loss of exactly zero": (made_up(train__loss=[2.0, 1.0, 0.5, 0.0]), ["AllZero"]),
    "a loss that rises once": (made_up(train__loss=[2.0, 1.0, 1.5, 0.5]), ["LossNotDecreasing"]),
    "a training loss that rises while validation falls": (
        made_up(train__loss=[2.0, 1.0, 1.1, 0.5], val__loss=[2.0, 1.05, 1.0, 0.5]),
        [],
    ),
    "validation 20 % above training twice": (
        made_up(train__loss=[2.0, 1.0, 0.9, 0.8], val__loss=[2.0, 1.2, 1.1, 0.99]),
        ["Overfit"],
    ),
    "validation 20 % above training once": (
        made_up(train__loss=[2.0, 1.0, 0.9, 0.8], val__loss=[2.0, 1.2, 0.98, 0.85]),
        [],
    ),
    "neither loss gains 0.1 for 10 saved points": (
        made_up(every=500, train__loss=falling(14, 0.3, 0.99), val__loss=falling(14, 0.31, 0.99)),
        ["Overtraining"],
    ),
    "only training has stopped": (
        made_up(every=500, train__loss=falling(14, 3.0, 0.999), val__loss=falling(14, 3.2, 0.95)),
        [],
    ),
    "a loss printed three times alike": (
        made_up(train__loss=[2.0, 1.0, 1.0, 1.0]),
        ["LossNotDecreasing", "UnchangedTensor"],
    ),
    "a step of half an hour": (
        made_up(train__loss=falling(4), time__step_ms=[100.0, 100.0, 1.9e6, 100.0]),
        ["StalledTrainingRule"],
    ),
}


@pytest.mark.parametrize("case", SAGEMAKER)
def test_sagemaker_debugger(case: str):
    run, expected = SAGEMAKER[case]
    assert alarms("SageMaker Debugger", run) == expected


def test_sagemaker_debugger_saves_every_500_updates():
    between_saves = [3.0, 2.0, 2.5, 2.0, 1.9, 1.8, 1.5, 1.6, 1.4, 1.3, 1.2]  # saved: 3.0, 1.8, 1.2
    assert alarms("SageMaker Debugger", made_up(train__loss=between_saves)) == []


def test_sagemaker_debugger_takes_every_row_of_an_x_axis_in_epochs():
    run = made_up(train__loss=[2.0, 1.0, 1.5, 0.5])
    for name in ("train/loss", "epoch"):
        values = [2.0, 1.0, 1.5, 0.5] if name == "train/loss" else [1.0, 2.0, 3.0, 4.0]
        updates = np.arange(1, 5)
        run.series[name] = Series(name, updates, np.array(values), updates * 0, "run")
    assert alarms("SageMaker Debugger", run) == ["LossNotDecreasing"]


UMLAUT = {
    "a healthy run": (made_up({"learning_rate": 1e-3}, train__loss=falling(), val__loss=falling(12, 2.1)), []),
    "a NaN loss": (made_up(train__loss=[2.0, 1.0, NAN], val__loss=[2.0, 1.0, 0.9]), ["nan_loss"]),
    "a learning rate of 0.1": (made_up(train__loss=falling(4), val__loss=falling(4), lr__all=[0.1] * 4), ["lr_high"]),
    "one group at 1e-8": (
        made_up(train__loss=falling(4), val__loss=falling(4), lr__core=[1e-3] * 4, lr__memory=[1e-8] * 4),
        ["lr_low"],
    ),
    "a configured rate of 0.05": (made_up({"learning_rate": 0.05}, train__loss=falling(4)), ["lr_high"]),
    "validation rises while training falls": (
        made_up(train__loss=[2.0, 1.0, 0.8], val__loss=[2.0, 1.2, 1.3]),
        ["overfitting"],
    ),
    "both losses rise": (made_up(train__loss=[2.0, 1.0, 1.1], val__loss=[2.0, 1.2, 1.3]), []),
    "validation accuracy of 0.97": (classifier(ACCURATE, [*ACCURATE[:11], 0.97]), ["overconfident_val"]),
    "high validation accuracy in the first epochs": (classifier(ACCURATE, [0.99, 0.99, 0.99, *ACCURATE[3:]]), []),
    "dropout of 0.6": (made_up({"dropout": 0.6}, train__loss=falling(4)), ["high_dropout_rate"]),
}


@pytest.mark.parametrize("case", UMLAUT)
def test_umlaut(case: str):
    run, expected = UMLAUT[case]
    assert alarms("UMLAUT", run) == expected


PLAIN = {
    "a falling loss": (made_up(train__loss=falling(40)), []),
    "NaN in the training loss": (made_up(train__loss=[*falling(4), NAN]), ["nan"]),
    "eleven evaluations without a better one": (made_up(val__loss=[2.0, 1.0, *[1.1] * 11]), ["plateau"]),
    "ten evaluations without a better one": (made_up(val__loss=[2.0, 1.0, *[1.1] * 10, 0.9]), []),
    "gains below one in ten thousand": (made_up(val__loss=falling(14, 1.0, 0.999995)), ["plateau"]),
    "a flat training loss under a falling validation loss": (
        made_up(train__loss=[1.0] * 40, val__loss=falling(40)),
        [],
    ),
    "both": (made_up(train__loss=[NAN] * 14, val__loss=[1.0] * 14), ["nan", "plateau"]),
}


@pytest.mark.parametrize("case", PLAIN)
def test_plain_alert(case: str):
    run, expected = PLAIN[case]
    assert alarms("NaN/plateau alert", run) == expected
