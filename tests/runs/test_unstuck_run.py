"""Our own run folder."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from unstuck.runs.readers import read_runs

START = {
    "event": "start", "time": 1.0, "unstuck": "0.1.0", "derived": {"warmup": "3 updates"}, "updates": 30,
    "vocabulary": 97, "parameters": 1234, "unigram_entropy": 3.2, "train_tokens": 5000, "micro_batches_per_update": 3,
    "groups": {"core": {"algorithm": "adamw", "base_lr": 5e-5, "lr_factor": 1.0, "parameters": 1000},
               "memory": {"algorithm": "adamw", "base_lr": 5e-6, "lr_factor": 0.1, "parameters": 234}},
}  # fmt: skip
CONFIG = """optimizer:
  learning_rate: 5e-5
schedule:
  kind: cosine
  warmup_share: 0.1
training:
  updates: 30
  accumulation: 3
inject_fault: warmup-cast-to-zero
"""


def update(k: int, loss: Any = 3.0) -> dict[str, Any]:
    return {
        "event": "update",
        "update": k,
        "train/loss": loss,
        "lr/core": 1e-5,
        "grad_norm/preclip": "inf",
        "tokens": 8,
    }


def write(folder: Path, events: list[dict[str, Any]], tail: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps(event) + "\n" for event in events) + tail
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    return folder


def test_events_become_series_settings_and_events(tmp_path):
    events = [START, {"event": "evaluation", "update": 0, "val/loss": 4.5, "val/loss/tail": 4.6},
              update(1), update(2, "nan"), {"event": "alert", "rule": "loss-not-finite", "update": 2},
              {"event": "end", "stopped_by": "finding: loss-not-finite"}]  # fmt: skip
    run = read_runs(write(tmp_path / "run", events))[0]
    assert run.format == "unstuck-run"
    assert run.series["train/loss"].updates.tolist() == [1, 2]
    assert math.isnan(run.series["train/loss"].values[1])
    assert run.series["grad_norm/preclip"].values.tolist() == [math.inf, math.inf]
    assert str(run.series["val/loss"].source(0)) == "metrics.jsonl:2"
    assert {"time", "event"}.isdisjoint(run.series)
    assert [event.kind for event in run.events] == ["start", "evaluation", "alert", "end"]


def test_start_event_and_configuration_give_settings(tmp_path):
    run = read_runs(write(tmp_path / "run", [START, update(1)]))[0]
    assert run.dialect == "unstuck"
    assert run.setting("learning_rate") == 5e-5
    assert run.setting("accumulation") == 3
    assert run.setting("vocabulary") == 97
    assert run.setting("unigram_entropy") == 3.2
    assert run.setting("group_lr_factors") == {"core": 1.0, "memory": 0.1}
    assert run.setting("start") == "fresh"


def test_the_injected_fault_never_reaches_the_diagnosis(tmp_path):
    run = read_runs(write(tmp_path / "run", [START, update(1)]))[0]
    told = [*run.settings, *run.raw_settings, *run.notes, *(e.text for e in run.events)]
    told += [str(s.value) for s in (*run.settings.values(), *run.raw_settings.values())]
    assert not any("inject_fault" in text or "cast-to-zero" in text for text in told)


def test_a_torn_last_line_is_left_out_with_a_note(tmp_path):
    run = read_runs(write(tmp_path / "run", [START, update(1)], '{"event":"update","upd'))[0]
    assert run.updates == 1
    assert any("torn" in note for note in run.notes)


def test_rows_after_a_resume_supersede_what_was_logged_beyond_it(tmp_path):
    events = [START, update(1), update(2), update(3), {"event": "evaluation", "update": 3, "val/loss": 9.0},
              {"event": "resume", "update": 1, "kept": ["weights"], "changed": {"learning_rate": [1, 2]}},
              update(2, 2.5)]  # fmt: skip
    run = read_runs(write(tmp_path / "run", events))[0]
    assert run.series["train/loss"].updates.tolist() == [1, 2]
    assert run.series["train/loss"].values.tolist() == [3.0, 2.5]
    assert "val/loss" not in run.series
    assert next(run.events_of("resume")).data["changed"] == {"learning_rate": [1, 2]}
    assert "evaluation" not in [event.kind for event in run.events]


def test_a_folder_of_run_folders_gives_every_run(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, [START, update(1)])
    assert [Path(run.source).name for run in read_runs(tmp_path)] == ["a", "b"]
