"""The fault benchmark: runs of a second, end to end, with each trainer; labels and measures on made-up records."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

pytest.importorskip("torch")

from benchmarks.faults.catalogue import FAULTS, PAIRS
from benchmarks.faults.controls import CONTROLS
from benchmarks.faults.effect import Label, labels
from benchmarks.faults.generate import make, records
from benchmarks.faults.measures import calibration, overall, per_rule, share
from benchmarks.faults.plan import SPLITS, Case, families, plan
from benchmarks.faults.scored import Scored, score_record
from benchmarks.faults.settings import setup_from
from benchmarks.faults.tables import report

SHARED = Path(__file__).resolve().parents[3] / "shared"
UPDATES = 24


def small(case: Case, **changes: Any) -> Case:
    """The case as a run of a second, in a folder of its own."""
    plain = case.setup.but(updates=UPDATES, eval_every=6, log_every=2, batch_size=4, accumulation=1, warmup=0)
    changed = plain.but(**changes)
    return replace(case, id=f"{case.id}{len(changes)}", setup=changed)


def healthy_case(family: str, trainer: str) -> Case:
    cases = plan("development", 1)
    return next(c for c in cases if c.group == f"development/{family}/{trainer}/0" and c.role == "healthy")


def made(case: Case, out: Path) -> dict[str, Any]:
    assert make(case, out) == ""
    return next(r for r in records(out, case.split) if r["id"] == case.id)


def logged(out: Path, case: Case) -> str:
    folder = out / case.split / "logs" / case.id
    return "".join(p.read_text(encoding="utf-8") for p in sorted(folder.rglob("*")) if p.is_file())


@pytest.mark.parametrize(("family", "trainer"), [("classifier", "loop"), ("char-gpt", "loop")])
def test_the_plain_loop_leaves_a_log_that_is_read_and_diagnosed(tmp_path: Path, family: str, trainer: str):
    case = small(healthy_case(family, trainer))
    record = made(case, tmp_path)
    assert set(record["outcome"]["views"]) == {"text", "jsonl"}
    scored = score_record(record, Label("healthy"), tmp_path, "jsonl")
    assert scored.error == ""
    assert scored.run is not None
    assert scored.run.updates > 0
    assert {"train/loss", "val/loss"} <= set(scored.run.series)
    assert scored.run.setting("batch_size") == 4


def test_a_loss_that_is_no_number_is_found_and_its_label_confirmed(tmp_path: Path):
    well = small(healthy_case("regression", "loop"))
    sick = replace(small(well, bad_samples=400, learning_rate=0.01), role="fault", names=("bad-samples",), sizes=({},))
    rows = [made(well, tmp_path), made(sick, tmp_path)]
    others = [dict(rows[0], id=f"other{k}") for k in range(2)]
    label = labels([*rows, *others])[sick.id]
    assert label.verdict == "faulty"
    assert label.expected == (FAULTS["bad-samples"].expected,)
    assert score_record(rows[1], label, tmp_path, "jsonl").found(("loss-not-finite",))


def test_a_finished_run_is_not_made_again(tmp_path: Path):
    from benchmarks.faults.generate import generate

    case = small(healthy_case("regression", "loop"))
    made(case, tmp_path)
    told: list[str] = []
    assert generate([case], tmp_path, 1, told.append) == 0
    assert told == ["0 runs to make with 1 workers"]


def test_a_planned_resume_and_a_schedule_begun_anew_differ_by_the_rate(tmp_path: Path):
    base = healthy_case("regression", "loop")
    planned = made(small(base, resume_at=18, schedule="linear"), tmp_path)
    anew = made(small(base, resume_at=18, schedule="linear", schedule_anew=True), tmp_path)
    assert planned["outcome"]["rate_jump"] < 1.0 < anew["outcome"]["rate_jump"]


def test_transformers_trainer_leaves_its_state_and_what_it_printed(tmp_path: Path):
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    well = small(healthy_case("classifier", "transformers"))
    record = made(well, tmp_path)
    assert set(record["outcome"]["views"]) == {"state", "stdout"}
    assert score_record(record, Label("healthy"), tmp_path, "state").error == ""
    smoothed = made(small(well, label_smoothing=0.2, updates=UPDATES), tmp_path)
    _, reported, clean = smoothed["outcome"]["evaluations"][-1]
    assert reported > 1.02 * clean
    assert not made(small(well, bad_samples=2000), tmp_path)["outcome"]["finite"]


def test_unstuck_train_leaves_its_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UNSTUCK_CACHE", str(tmp_path / "cache"))
    well = healthy_case("char-gpt", "unstuck")
    overrides = [*well.setup.settings.model["overrides"], "data.max_characters=20000"]
    well = small(well, model={"overrides": overrides})
    record = made(well, tmp_path)
    assert record["outcome"]["updates"] == UPDATES
    scored = score_record(record, Label("healthy"), tmp_path)
    assert scored.error == ""
    stale = small(well, resume_at=12, resume_learning_rate=1e-4, stale_rate=True, schedule="constant")
    made(stale, tmp_path)
    assert "resume-keeps-old-lr" not in logged(tmp_path, stale)


def test_no_log_names_its_fault(tmp_path: Path):
    case = small(healthy_case("regression", "loop"))
    for name in ("data-bound", "slows-down", "stale-rate-at-resume", "group-starved", "horizon-in-micro-batches"):
        applied = FAULTS[name].apply(Random(1), case.setup)
        if applied is None:
            continue
        sick = replace(case, id=f"run{name[:2]}", setup=applied[0], role="fault", names=(name,))
        made(sick, tmp_path)
        words = set(re.findall(r"[a-z]+", logged(tmp_path, sick).lower()))
        assert not words & {"fault", "bug", "bugs", "stale", "starved", "slowdown", "wait", "injected"}


@pytest.mark.parametrize("split", SPLITS)
def test_the_plan_is_the_same_every_time_and_has_every_kind_of_run(split: str):
    cases = plan(split, 1)
    assert [c.id for c in cases] == [c.id for c in plan(split, 1)]
    assert len({c.id for c in cases}) == len(cases)
    assert {c.role for c in cases} == {"healthy", "control", "fault"}
    for case in cases:
        assert setup_from(json.loads(json.dumps(case.setup.as_dict()))) == case.setup


def test_the_splits_share_no_family_and_no_style_of_the_loop():
    held_out = families("held-out")
    others = {name: family for split in SPLITS[:-1] for name, family in families(split).items()}
    assert not set(held_out) & set(others)
    styles = [{style for f in given.values() for style in f.trainers.get("loop", ())} for given in (held_out, others)]
    assert not styles[0] & styles[1]


def test_every_rule_that_the_catalogue_names_exists():
    if not (SHARED / "RULES.md").is_file():
        pytest.skip("the rule catalogue ../shared/RULES.md is not here")
    known = set(re.findall(r"\| ([a-z0-9-]+) \|", (SHARED / "RULES.md").read_text(encoding="utf-8")))
    named = {rule for fault in FAULTS.values() for rule in (*fault.expected, *fault.accepted)}
    assert named | {rule for control in CONTROLS.values() for rule in control.accepted} <= known
    assert {name for pair in PAIRS for name in pair} <= set(FAULTS)


def made_up(
    id: str, final: float, role: str = "healthy", names: tuple[str, ...] = (), **outcome: Any
) -> dict[str, Any]:
    """A record as `generate` writes it, with a clean loss that falls to `final`."""
    return {
        "id": id, "group": "g", "role": role, "names": names, "setup": {"family": "f", "trainer": "loop"},
        "outcome": {
            "evaluations": [[10, 4.0, 4.0], [20, final, final]], "finite": True, "ended": "completed",
            "clipped_share": 0.0, "wait_share": 0.0, "slowdown": 1.0, "rate_jump": 1.0, **outcome,
        },
    }  # fmt: skip


HEALTHY = [made_up("a", 2.00), made_up("b", 2.01), made_up("c", 1.99)]


def test_a_fault_that_did_nothing_is_not_asked_for():
    given = labels(
        [*HEALTHY, made_up("x", 2.01, "fault", ("lr-too-high",)), made_up("y", 2.6, "fault", ("lr-too-high",))]
    )
    assert given["a"].verdict == "healthy"
    assert given["x"].verdict == "no-effect"
    assert given["y"].verdict == "faulty"


def test_of_two_faults_only_the_one_with_an_effect_is_expected():
    both = ("lr-too-low", "data-bound")
    given = labels([*HEALTHY, made_up("x", 2.0, "fault", both, wait_share=0.8)])
    assert given["x"].expected == (FAULTS["data-bound"].expected,)


def test_a_run_without_a_final_loss_is_harmed_and_no_healthy_run():
    given = labels([*HEALTHY, made_up("x", math.nan, "fault", ("lr-too-high",)), made_up("n", math.nan)])
    assert given["x"].verdict == "faulty"
    assert given["n"].verdict == "unclear"


def test_a_control_that_learned_less_is_left_out():
    given = labels([*HEALTHY, made_up("x", 2.9, "control", ("adam",)), made_up("y", 2.02, "control", ("adam",))])
    assert given["x"].verdict == "unclear"
    assert given["y"].verdict == "healthy"


def test_measures_of_a_handful_of_runs():
    sick = Label("faulty", ("lr-too-high",), (("lr-too-high",),), frozenset({"loss-spike"}))
    runs = [
        Scored(
            "1", "f", "loop", "v", sick, [("lr-too-high", "error", 0.9), ("overfitting", "warning", 0.6)], (), "sick"
        ),
        Scored("2", "f", "loop", "v", sick, [("loss-spike", "warning", 0.8)]),
        Scored("3", "f", "loop", "v", Label("healthy"), [("loss-spike", "warning", 0.7)], (), "sick"),
        Scored("4", "f", "loop", "v", Label("healthy"), [("gradient-norm-preclip", "note", 0.9)], (), "healthy"),
        Scored("5", "f", "loop", "v", Label("no-effect", ("lr-too-low",)), [("lr-too-low", "error", 0.9)], (), "sick"),
    ]
    for run in runs:
        run.verdict = "sick" if run.alarms else "healthy"
    o = overall(runs)
    assert (o.found.hits, o.found.total) == (1, 2)
    assert (o.first.hits, o.called_sick.hits) == (1, 2)
    assert (o.healthy_alarmed.hits, o.healthy_alarmed.total) == (1, 2)
    assert o.faulty_wrong.hits == 1
    rules = per_rule(runs)
    assert (rules["loss-spike"].right, rules["loss-spike"].wrong, rules["loss-spike"].on_healthy) == (1, 1, 1)
    assert "lr-too-low" not in rules
    assert calibration(runs, "error").brier == pytest.approx(0.01)
    assert "lr-too-high" in report("Title", "told", runs, [], details=True)


def test_wilsons_interval():
    low, high = share([True] * 9 + [False]).interval()
    assert (low, high) == (pytest.approx(0.596, abs=1e-3), pytest.approx(0.982, abs=1e-3))
