"""The history of several runs: what changed, what happened, and what may be said of it."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unstuck import ledger
from unstuck.cli.main import main
from unstuck.diagnose.history import History, history_of
from unstuck.diagnose.history_document import history_document
from unstuck.runs import Run
from unstuck.runs.readers import read_runs

LABELLED = Path(__file__).resolve().parents[3] / "shared" / "logs" / "generated" / "hf_trainer"
BASE = {"lr": 1e-3, "batch_size": 16, "grad_clip": 1.0, "schedule": "constant", "task": "char-lm", "vocab_size": 65,
        "steps": 400, "train_samples": 9600}  # fmt: skip


def write(folder: Path, name: str, level: float, *, noise: float = 0.004, updates: int = 400, **changed: Any) -> Path:
    """A little log that comes down to `level`, with its configuration beside it."""
    rng = np.random.default_rng(len(name) + int(1e4 * level))
    path = folder / f"{name}.jsonl"
    rows: list[dict[str, float]] = []
    for update in range(10, updates + 1, 10):
        loss = level + (4.17 - level) * math.exp(-update / 60)
        rows.append({"step": update, "train_loss": round(loss + rng.normal(0, noise), 4)})
        if update % 40 == 0:
            rows.append({"step": update, "val_loss": round(loss + 0.02 + rng.normal(0, noise), 4)})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = {k: v for k, v in {**BASE, **changed}.items() if v is not None}
    path.with_name(f"{name}.config.json").write_text(json.dumps(settings), encoding="utf-8")
    return path


def history(paths: Sequence[Path]) -> History:
    return history_of([run for path in paths for run in read_runs(path)])


def rules(found: History) -> dict[str, str]:
    return {finding.rule: finding.title for finding in found.findings}


def test_a_rate_lowered_in_the_wrong_direction_is_told_as_such(tmp_path: Path):
    rates = (3e-4, 1e-4, 5e-5, 2e-5, 1e-5)
    paths = [write(tmp_path, f"run_{k}", 1.6 + 0.25 * k, lr=rate) for k, rate in enumerate(rates, start=1)]
    found = history(paths)
    assert rules(found) == {
        "lr-too-low": "The learning rate was lowered four times (3e-4, 1e-4, 5e-5, 2e-5, 1e-5); each time the result "
        "got worse"
    }
    assert found.findings[0].blames == 4
    assert [step.only for step in found.steps] == ["learning rate"] * 4


def test_several_settings_at_a_time_cannot_be_told_apart_and_make_the_direction_less_sure(tmp_path: Path):
    """Incident I2: the rate lowered four times, in two of the steps with clip and patience."""
    changed: list[dict[str, Any]] = [{"lr": 3e-4}, {"lr": 1e-4}, {"lr": 5e-5}]
    changed.append({"lr": 2e-5, "grad_clip": 2.0, "lr_patience": 5})
    changed.append({"lr": 1e-5, "grad_clip": 3.0, "lr_patience": 3})
    paths = [write(tmp_path, f"run_{k}", 1.6 + 0.25 * k, **c) for k, c in enumerate(changed, start=1)]
    found = history(paths)
    told = rules(found)
    assert told["changes-confounded"] == (
        "Three settings changed at once in two of the four steps, so their effects cannot be told apart"
    )
    assert "each time the result got worse" in told["lr-too-low"]
    sure = {finding.rule: finding for finding in found.findings}
    assert sure["lr-too-low"].confidence < 0.7
    assert "In two of the steps other settings changed as well" in sure["lr-too-low"].detail
    assert "grad_clip 1 -> 2" in sure["changes-confounded"].detail


def test_the_last_step_of_incident_i2_from_its_printed_numbers(tmp_path: Path):
    """Validation of the run at 2e-5 by epoch, and 0.889 at epoch 10 of the run at 1e-5 (INCIDENTS, I2)."""
    settings = {"model": "fno", "batch_size": 8, "optimizer": "adamw", "loss": "relative_l2"}
    known: dict[str, tuple[list[dict[str, float]], dict[str, Any]]] = {
        "first": (
            [{"epoch": k, "val_loss": v} for k, v in enumerate([0.8294, 0.5869, 0.6093, 0.6127, 0.6011, 0.5884])],
            {"lr": 2e-5, "grad_clip": 2.0, "lr_patience": 5},
        ),
        "second": (
            [{"epoch": 9, "lr": 1e-5}, {"epoch": 10, "lr": 1e-5, "val_loss": 0.889}],
            {"lr": 1e-5, "grad_clip": 3.0, "lr_patience": 3},
        ),
    }
    paths = []
    for name, (rows, changed) in known.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        path.with_name(f"{name}.config.json").write_text(json.dumps({**settings, **changed}), encoding="utf-8")
        paths.append(path)
    found = history(paths)
    (step,) = found.steps
    assert set(step.levers) == {"learning rate", "clip_norm", "patience"}
    assert step.outcome is not None
    assert step.outcome.verdict == "worse"
    assert (step.outcome.old, step.outcome.new) == (0.5869, 0.889)
    assert "changes-confounded" in rules(found)


def test_rates_in_any_order_show_their_direction(tmp_path: Path):
    rates = {3e-4: 1.9, 3e-3: 1.5, 1e-3: 1.7}
    paths = [write(tmp_path, f"run_{k}", level, lr=rate) for k, (rate, level) in enumerate(rates.items())]
    found = history(paths)
    assert "the best rate lies there or above" in rules(found)["lr-too-low"]
    assert found.findings[0].blames == 0


def test_an_optimum_in_between_has_no_direction(tmp_path: Path):
    rates = {3e-4: 1.9, 1e-3: 1.5, 3e-3: 1.8}
    paths = [write(tmp_path, f"run_{k}", level, lr=rate) for k, (rate, level) in enumerate(rates.items())]
    assert rules(history(paths)) == {}


def test_differences_within_noise_are_no_result(tmp_path: Path):
    levels = (1.700, 1.704, 1.698, 1.703)
    rates = (3e-4, 2e-4, 1e-4, 5e-5)
    paths = [write(tmp_path, f"run_{k}", levels[k], lr=rates[k]) for k in range(4)]
    found = history(paths)
    assert rules(found) == {}
    assert {s.outcome.verdict for s in found.steps if s.outcome} == {"no difference beyond noise"}


def test_the_same_settings_tell_what_a_seed_is_worth_and_widen_the_noise(tmp_path: Path):
    paths = [
        write(tmp_path, "run_1", 1.70, seed=1),
        write(tmp_path, "run_2", 1.82, seed=2),
        write(tmp_path, "run_3", 1.94, seed=2, grad_clip=0.5),
    ]
    found = history(paths)
    assert any("The same settings gave 1.7" in remark and "seed" in remark for remark in found.remarks)
    (sd,) = found.seed_sds
    assert sd is not None
    assert sd > 0.07
    assert found.steps[1].outcome is not None
    assert found.steps[1].outcome.verdict == "no difference beyond noise"


def test_another_split_seed_length_or_place_changes_nothing(tmp_path: Path):
    paths = [
        write(tmp_path, "run_1", 1.7, grad_accum=1, output_dir="a", data_dir="/home/a/corpus"),
        write(tmp_path, "run_2", 1.7, batch_size=4, grad_accum=4, output_dir="b", seed=3, data_dir="/mnt/corpus",
              steps=500, updates=500),
    ]  # fmt: skip
    found = history(paths)
    assert found.steps[0].changes is not None
    assert found.steps[0].levers == {}


def test_a_batch_that_changed_while_the_rate_stayed_is_told(tmp_path: Path):
    paths = [write(tmp_path, "run_1", 1.7, batch_size=64), write(tmp_path, "run_2", 1.95, batch_size=8)]
    finding = history(paths).findings[0]
    assert finding.rule == "batch-changed-lr-kept"
    assert finding.severity == "warning"
    assert "from 64 to 8 and the learning rate stayed 1e-3" in finding.title


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"vocab_size": 50257}, "vocabulary is 65 and 50257"),
        ({"task": "classification"}, "task is causal-lm and classification"),
        ({"dataset": "owt"}, "dataset is shakespeare and owt"),
        ({"loss": "focal"}, "loss is ce and focal: another loss"),
    ],
)
def test_what_does_not_compare_is_not_compared_and_the_history_says_why(
    tmp_path: Path, changed: dict[str, Any], why: str
):
    first = {"dataset": "shakespeare", "loss": "ce"}
    paths = [write(tmp_path, "run_1", 1.7, **first), write(tmp_path, "run_2", 2.9, **{**first, **changed})]
    found = history(paths)
    assert found.steps == ()
    assert found.findings == ()
    assert any(why in remark for remark in found.remarks)


def test_runs_without_settings_are_not_said_to_differ_in_anything(tmp_path: Path):
    paths = [write(tmp_path, "run_1", 1.7), write(tmp_path, "run_2", 1.9)]
    for path in paths:
        path.with_name(f"{path.stem}.config.json").unlink()
    found = history(paths)
    assert found.steps == ()
    assert found.findings == ()


def test_a_run_that_goes_on_has_no_result_of_its_own(tmp_path: Path):
    first = write(tmp_path, "run_1", 1.7)
    second = write(tmp_path, "run_2", 1.7, updates=900, lr=5e-4, resume_from="out/ckpt.pt")
    rows = [row for row in second.read_text(encoding="utf-8").splitlines() if json.loads(row)["step"] > 380]
    second.write_text("\n".join(rows) + "\n", encoding="utf-8")
    (step,) = history([first, second]).steps
    assert step.outcome is None
    assert step.why_unknown == "it goes on from the run before"


def test_two_records_of_one_run_count_once(tmp_path: Path):
    first = write(tmp_path, "run_1", 1.7)
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(first.read_bytes())
    found = history([first, copy, write(tmp_path, "run_2", 1.4, lr=3e-3)])
    assert len(found.runs) == 2
    assert any("Records of the same run" in remark for remark in found.remarks)


def test_the_time_in_the_names_orders_runs(tmp_path: Path):
    paths = [
        write(tmp_path, "out_11142025_022614", 1.5, lr=1e-4),
        write(tmp_path, "out_11102025_191651", 1.7, lr=1e-3),
        write(tmp_path, "out_11112025_142811", 1.6, lr=3e-4),
    ]
    found = history(paths)
    assert [run.setting("learning_rate") for run in found.runs] == [1e-3, 3e-4, 1e-4]
    assert found.order == "by the time in their names"


def test_a_folder_is_read_in_the_order_of_the_numbers_and_named_files_as_given(tmp_path: Path):
    paths = {k: write(tmp_path, f"run_{k}", 1.7 - 0.1 * k / 10, lr=1e-3 + k * 1e-5) for k in (2, 9, 10)}
    assert [Path(run.source).stem for run in history([tmp_path]).runs] == ["run_2", "run_9", "run_10"]
    given = history([paths[9], paths[2], paths[10]])
    assert [Path(run.source).stem for run in given.runs] == ["run_9", "run_2", "run_10"]
    assert given.order == "in the order given"


@pytest.mark.parametrize("rank", [1, 2])
def test_a_lower_rank_that_breaks_away_is_blamed(tmp_path: Path, rank: int):
    settings = {"use_lora": True, "init_from": "gpt2"}
    paths = [
        write(tmp_path, "low", 2.4, lora_r=rank, lora_alpha=2 * rank, **settings),
        write(tmp_path, "high", 1.9, lora_r=16, lora_alpha=32, **settings),
    ]
    found = history(paths)
    assert f"LoRA rank {rank} tracks rank 16" in rules(found)["lora-capacity-low"]
    assert found.findings[0].blames == 0


def test_a_lower_rank_that_keeps_up_is_not(tmp_path: Path):
    paths = [write(tmp_path, "low", 1.905, lora_r=8), write(tmp_path, "high", 1.900, lora_r=16)]
    assert rules(history(paths)) == {}


def test_a_lower_rank_that_starts_elsewhere_is_not(tmp_path: Path):
    low, high = write(tmp_path, "low", 2.4, lora_r=1), write(tmp_path, "high", 1.9, lora_r=16)
    rows = [json.loads(row) for row in low.read_text(encoding="utf-8").splitlines()]
    shifted = [{k: v if k == "step" else v + 1.0 for k, v in row.items()} for row in rows]
    low.write_text("".join(json.dumps(row) + "\n" for row in shifted), encoding="utf-8")
    assert "lora-capacity-low" not in rules(history([low, high]))


@pytest.mark.skipif(not LABELLED.is_dir(), reason=f"the labelled pair run_014 / run_041 is not in {LABELLED}")
def test_the_labelled_pair_of_ranks(capsys: pytest.CaptureFixture[str]):
    paths = [str(LABELLED / f"run_{k}.trainer_state.json") for k in ("014", "041")]
    assert main(["diagnose", *paths, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    (finding,) = (f for f in document["history"]["findings"] if f["rule"] == "lora-capacity-low")
    assert finding["blames"] == paths[0]
    of_run = {f["rule"] for f in document["runs"][0]["findings"]}
    assert "lora-capacity-low" in of_run


def nanogpt(folder: Path, name: str, rate: float, level: float) -> Path:
    """A log as nanoGPT prints it, with its header."""
    lines = [f"Overriding: learning_rate = {rate}", "Overriding: max_iters = 400", "Overriding: lr_decay_iters = 400",
             "tokens per iteration will be: 1,024", "found vocab_size = 65 (inside data/meta.pkl)",
             "Initializing a new model from scratch", "number of parameters: 0.10M"]  # fmt: skip
    for update in range(0, 401, 10):
        loss = level + (4.17 - level) * math.exp(-update / 60) + 0.003 * math.sin(update)
        if update % 50 == 0:
            lines.append(f"step {update}: train loss {loss:.4f}, val loss {loss + 0.02:.4f}")
        lines.append(f"iter {update}: loss {loss:.4f}, time 34.53ms, mfu 9.49%")
    path = folder / f"{name}.log"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_nanogpt_logs_are_compared_by_their_overrides(tmp_path: Path):
    rates = {6e-4: 1.5, 3e-4: 1.7, 1e-4: 2.0}
    paths = [nanogpt(tmp_path, f"train_{k}", rate, level) for k, (rate, level) in enumerate(rates.items())]
    found = history(paths)
    assert "lowered twice (6e-4, 3e-4, 1e-4); each time the result got worse" in rules(found)["lr-too-low"]


def our_run(folder: Path, name: str, rate: float, level: float, time: float) -> None:
    """A run folder as `unstuck train` writes it, in little."""
    place = folder / name
    place.mkdir(parents=True)
    (place / "config.yaml").write_text(
        f"optimizer:\n  learning_rate: {rate}\n  kind: adamw\ntraining:\n  updates: 400\n  batch_size: 16\n"
        "schedule:\n  kind: constant\ndata:\n  context: 64\n",
        encoding="utf-8",
    )
    rows: list[dict[str, Any]] = [{"event": "start", "time": time, "unstuck": "0.1.0", "updates": 400,
                                   "vocabulary": 65, "unit": "nats/token", "parameters": 100000}]  # fmt: skip
    for update in range(10, 401, 10):
        loss = level + (4.17 - level) * math.exp(-update / 60) + 0.003 * math.sin(update)
        rows.append({"event": "update", "update": update, "train/loss": loss})
        if update % 40 == 0:
            rows.append({"event": "evaluation", "update": update, "val/loss": loss + 0.02})
    (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_ledger_names_the_runs_of_its_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    runs = tmp_path / "runs"
    for place, (rate, level) in enumerate({3e-3: 1.5, 1e-3: 1.8, 3e-4: 2.2}.items()):
        our_run(runs, f"gpt-{place}", rate, level, 1.8e9 - place)  # the ledger's order is not the time's
        ledger.append(runs, "run", run=f"runs/gpt-{place}", updates=400, stopped_by="end")
    ledger.append(runs, "run", run="runs/gone", updates=1, stopped_by="user")
    status = main(["diagnose", str(runs / "ledger.jsonl"), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert status in (0, 1, 3)
    assert len(document["runs"]) == 3
    assert document["history"]["order"] == "by the time in the logs"
    assert (
        "raised twice (3e-4, 1e-3, 3e-3); each time the result got better"
        in document["history"]["findings"][0]["title"]
    )


def test_a_ledger_without_runs_is_refused_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ledger.append(tmp_path, "verdict", run="recipe.yaml", verdict="better")
    assert main(["diagnose", str(tmp_path / "ledger.jsonl")]) == 2
    assert "no run folder that it names is there" in capsys.readouterr().err


def test_the_terminal_shows_the_history_after_the_diagnoses(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rates = (3e-4, 1e-4, 5e-5)
    paths = [write(tmp_path, f"run_{k}", 1.6 + 0.25 * k, lr=rate) for k, rate in enumerate(rates, start=1)]
    main(["diagnose", *map(str, paths)])
    shown = capsys.readouterr().out
    assert shown.index("run_3.jsonl") < shown.index("History of 3 runs")
    assert "lr 3e-4 -> 1e-4" in shown
    main(["diagnose", str(paths[0])])
    assert "History" not in capsys.readouterr().out


def test_one_run_has_no_history_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    main(["diagnose", str(write(tmp_path, "run", 1.7)), "--json"])
    assert "history" not in json.loads(capsys.readouterr().out)


def test_the_document_holds_every_step_in_plain_json(tmp_path: Path):
    paths = [write(tmp_path, f"run_{k}", 1.6 + 0.25 * k, lr=rate) for k, rate in enumerate((3e-4, 1e-4, 5e-5))]
    document = history_document(history(paths))
    json.dumps(document, allow_nan=False)
    assert [(step["old"], step["new"]) for step in document["steps"]] == [(0, 1), (1, 2)]
    assert document["steps"][0]["changes"] == [
        {"key": "lr", "canonical": "learning_rate", "old": 3e-4, "new": 1e-4, "lever": "learning rate"}
    ]
    assert document["steps"][0]["outcome"]["verdict"] == "worse"


def test_odd_runs_break_nothing(tmp_path: Path):
    """Empty runs, a run of one point, a run that is nan all over, the same run twice, odd settings."""
    sound = read_runs(write(tmp_path, "run", 1.7))[0]
    short = read_runs(write(tmp_path, "short", 1.7, updates=40, lr="nonsense", batch_size=[1, 2]))[0]
    broken = read_runs(write(tmp_path, "broken", 1.7))[0]
    for series in broken.series.values():
        series.values[:] = np.nan
    empty = Run(os.devnull, "made-up")
    for runs in itertools.permutations([sound, short, broken, empty], 3):
        assert history_document(history_of(runs))["runs"]
    assert history_of([empty, empty]).steps == ()
