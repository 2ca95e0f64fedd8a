"""The demo from end to end at its tiny size, through the command line, in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs unstuck[train]")

from unstuck.demo.incidents import INCIDENTS, TINY

ENVIRONMENT = {**os.environ, "UNSTUCK_DEMO_SIZE": "tiny", "OMP_NUM_THREADS": "1"}


def demo(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "unstuck.cli.main", "demo", "--folder", str(folder), *words]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)


def test_the_main_job_finds_the_cause_fixes_it_and_proves_the_fix(tmp_path: Path):
    result = demo(tmp_path, "--json")
    assert result.returncode == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    assert document["rank_1"] in ("schedule-wrong-horizon", "lr-not-as-configured")
    assert document["proof"]["verdict"] == "better"
    assert document["proof"]["difference"]["high"] < 0
    assert len(document["proof"]["trials"]) == 6
    assert document["patch"][0]["key"] == "schedule.horizon_updates"
    assert document["patch"][0]["new"] == TINY.updates
    assert list(document["summary"]) == ["What was wrong", "Evidence", "Change", "Measured effect", "Report"]
    run = Path(document["run"])
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["stopped_by"] == f"finding: {document['rank_1']}"
    assert summary["updates"] < TINY.updates  # noticed while training, not after it
    page = Path(document["report"]).read_text(encoding="utf-8")
    assert "schedule.horizon_updates" in page
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert kinds == ["run", "diagnosis", "change", "verdict"]


def test_ctrl_c_ends_the_demo_with_one_sentence(tmp_path: Path):
    command = [sys.executable, "-m", "unstuck.cli.main", "demo", "--folder", str(tmp_path)]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        until = time.monotonic() + 60
        while not list(tmp_path.glob("*/metrics.jsonl")) and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "Traceback" not in errors
    assert "Ctrl-C" in errors


def test_an_unknown_incident_names_the_nearest(tmp_path: Path):
    result = demo(tmp_path, "--incident", "helthy")
    assert result.returncode == 2
    assert "did you mean healthy" in result.stderr


def test_no_incident_tells_the_diagnosis_its_fault():
    for incident in INCIDENTS.values():
        settings = incident.settings(TINY)
        assert incident.name not in {str(value) for key, value in settings.items() if key != "inject_fault"}
