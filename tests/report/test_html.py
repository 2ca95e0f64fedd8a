from __future__ import annotations

import base64
import gzip
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.diagnose.test_history import write
from unstuck.config.patch import Change
from unstuck.diagnose.calibration import record_of
from unstuck.diagnose.engine import Diagnosis, Finding, diagnose
from unstuck.diagnose.history import history_of
from unstuck.diagnose.rule import Evidence, Remedy
from unstuck.errors import UserError
from unstuck.report.html import write_report
from unstuck.report.html_figures import MAX_POINTS, charts, thin
from unstuck.report.html_text import number, setting
from unstuck.runs import Event, Run, Setting, Source
from unstuck.runs.readers import read_runs

EVIL = "<script>alert(1)</script>\"'&</script><!--"


class Page(HTMLParser):
    """The elements of a page: tags, ids, attributes that could run or load something, and the visible text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self._hidden = 0
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._hidden += tag in ("script", "style")
        self.loads += [f"{k}={v}" for k, v in attrs if k in ("src", "srcset") or k.startswith("on")]
        self.loads += [f"{k}={v}" for k, v in attrs if k == "href" and not (v or "").startswith("#")]

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data

    @property
    def figures(self) -> list[dict[str, Any]]:
        (data,) = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', self.source, re.S)
        return json.loads(data)  # type: ignore[no-any-return]


def proof(**changes: Any) -> dict[str, Any]:
    trials = [
        {"setting": kind, "seed": seed, "updates": 300, "val_loss": loss + seed / 100}
        for seed in (1, 2, 3)
        for kind, loss in (("base", 2.3), ("changed", 2.0))
    ]
    return {
        "verdict": "better",
        "difference": {"mean": -0.3, "low": -0.35, "high": -0.25, "level": 0.95, "unit": "nats/token"},
        "detectable": 0.05,
        "changes": [{"key": "learning_rate", "old": 1e-4, "new": 3e-4}],
        "trials": trials,
        "cost": {"seconds": 96.2, "tokens": 1843200, "runs": 6},
        **changes,
    }


def test_one_file_that_loads_nothing_and_holds_a_whole_plotly(
    tmp_path: Path, make_run: Callable[..., Run], make_finding: Callable[..., Finding]
) -> None:
    write_report(
        tmp_path / "r.html", [Diagnosis(make_run(), "sick", [make_finding()])], proof=proof(), title="A report"
    )
    page = Page(tmp_path / "r.html")
    assert page.loads == []
    assert page.tags.count("script") == 3
    (packed,) = re.findall(r'id="plotly">([A-Za-z0-9+/=]+)<', page.source)
    assert b"plotly.js v" in gzip.decompress(base64.b64decode(packed))[:400]
    assert (tmp_path / "r.html").stat().st_size < 2_500_000
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_the_verdict_comes_before_everything_else(
    tmp_path: Path, make_run: Callable[..., Run], make_finding: Callable[..., Finding]
) -> None:
    sick = Diagnosis(make_run(), "sick", [make_finding(title="The loss jumped at update 100")])
    write_report(tmp_path / "r.html", [sick], proof=proof(), title="t")
    text = Page(tmp_path / "r.html").text
    order = [
        text.index(words)
        for words in ("Sick", "The loss jumped at update 100", "Findings", "Proof", "Curves", "Configuration")
    ]
    assert order == sorted(order)


def test_a_finding_says_what_evidence_why_change_and_how_sure(
    tmp_path: Path, make_run: Callable[..., Run], make_finding: Callable[..., Finding]
) -> None:
    run = make_run()
    run.dialect = "plain"
    evidence = (Evidence("train/loss", (1200, 1350), "jump over its noise", 12.5, 6.0, Source("a/b/train.log", 212)),)
    remedy = Remedy("Lower the rate", "safe", (Change("learning_rate", 1e-3, 3e-4),), "A third is the usual bound.")
    cause = make_finding("lr-too-high", 1, evidence=evidence, remedies=(remedy,))
    assert not record_of("a-rule-never-counted")
    effect = make_finding("a-rule-never-counted", 2, because_of="lr-too-high")
    write_report(tmp_path / "r.html", [Diagnosis(run, "sick", [cause, effect])], title="t")
    page = Page(tmp_path / "r.html")
    for words in (
        "1,200-1,350", "jump over its noise", "12.5", "train.log:212", "Because <b>time</b> is lost.", "Lower the rate",
        "- lr = 0.001", "+ lr = 0.0003", "A third is the usual bound.", "its effect has not been measured",
        "90% by the rule's own estimate", "it follows from lr-too-high",
    ):  # fmt: skip
        assert words in page.text
    assert page.source.count('<details class="finding error"') == 2
    assert page.source.count(" open><summary>") == 1  # the consequence is folded


def test_nothing_from_a_log_becomes_markup(
    tmp_path: Path, logged: Callable[..., Diagnosis], make_finding: Callable[..., Finding]
) -> None:
    rows = [
        {"step": i, "train/loss": 4.0 - i / 100, "lr": 1e-3, f"lr/{EVIL}": 1e-3, EVIL: i, "note": EVIL}
        for i in range(60)
    ]
    diagnosis = logged(rows, name="<img src=x onerror=alert(2)>.jsonl")
    run = diagnosis.run
    run.settings[EVIL] = run.raw_settings[EVIL] = run.settings["x"] = Setting(EVIL, EVIL, Source(EVIL, 1))
    run.series[f"lr/{EVIL}"] = replace(run.series["train/loss"], name=f"lr/{EVIL}")
    run.notes.append(EVIL)
    diagnosis.findings = [
        make_finding(EVIL, 1, EVIL, (Evidence(f"lr/{EVIL}", (0, 9), EVIL, 1.0, source=Source(EVIL, 3)),))
    ]
    diagnosis.could_not_check[EVIL] = (EVIL,)
    curves = [{"setting": "base", "seed": 1, "series": EVIL, "updates": [0, 1], "values": ["nan", 2.0]}]
    evil_proof = proof(verdict=EVIL, changes=[{"key": EVIL, "old": EVIL, "new": EVIL}], curves=curves)
    write_report(tmp_path / "r.html", [diagnosis, diagnosis], proof=evil_proof, title=EVIL)
    page = Page(tmp_path / "r.html")
    assert page.tags.count("script") == 3
    assert "img" not in page.tags
    assert page.loads == []
    assert page.text.count("<script>alert(1)</script>") >= 10
    assert any(EVIL in s["name"] for figure in page.figures for s in figure["series"])


def test_points_that_are_not_finite_are_marked_and_counted(
    tmp_path: Path, make_run: Callable[..., Run], make_finding: Callable[..., Finding]
) -> None:
    norm = np.ones(400)
    norm[[40, 41, 399]] = math.nan, math.inf, -math.inf
    diagnosis = Diagnosis(make_run(**{"grad_norm/preclip": norm}), "sick", [make_finding()])
    write_report(tmp_path / "r.html", [diagnosis], title="t")
    page = Page(tmp_path / "r.html")
    (chart,) = [f for f in page.figures if f["id"].endswith("norm")]
    assert chart["bad"][0]["x"] == [41, 42, 400]
    assert chart["bad"][0]["kind"] == ["nan", "inf", "-inf"]
    assert "grad_norm/preclip is not finite at 3 of 400 points, first at update 41" in page.text


def test_a_run_without_one_finite_loss_still_has_a_report(tmp_path: Path, logged: Callable[..., Diagnosis]) -> None:
    diagnosis = logged([{"step": i, "loss": math.nan, "lr": 1e-3} for i in range(50)])
    write_report(tmp_path / "r.html", [diagnosis], title="t")
    assert "is not finite at 50 of 50 points" in Page(tmp_path / "r.html").text


def test_a_long_series_is_thinned_to_its_extremes() -> None:
    n = 300_000
    y = np.sin(np.arange(n) / 5000)
    y[123_456], y[234_567] = 50, -50
    x, kept = thin(np.arange(n), y)
    assert len(kept) <= MAX_POINTS
    assert kept.max() == 50
    assert kept.min() == -50
    assert x[kept.argmax()] == 123_456
    assert (np.diff(x) > 0).all()
    assert np.array_equal(kept, y[x])
    short = np.arange(10, dtype=float)
    assert thin(np.arange(10), short)[1] is short


def test_findings_are_marked_on_the_chart_that_shows_their_series(
    make_run: Callable[..., Run], make_finding: Callable[..., Finding]
) -> None:
    rate = Evidence("lr/all", (1, 400), "ratio", 0.1)
    spike = Evidence("train/loss", (100, 120), "jump", 12.0)
    run = make_run()
    run.events.append(Event("resume", 200))
    findings = [make_finding("lr-too-high", 1, evidence=(rate, spike)), make_finding("loss-spike", 2)]
    drawn = {c["id"]: c for c in charts(Diagnosis(run, "sick", findings), "run0")}
    assert [lane["label"] for lane in drawn["run0-lr"]["lanes"]] == ["lr-too-high"]
    assert [lane["label"] for lane in drawn["run0-loss"]["lanes"]] == ["lr-too-high", "loss-spike"]
    assert drawn["run0-loss"]["lanes"][0]["spans"] == [[100, 120]]
    assert drawn["run0-lr"]["marks"] == [{"x": 200, "label": "resumed"}]


def test_configuration_says_where_each_value_was_read(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    write_report(tmp_path / "r.html", [Diagnosis(make_run(), "healthy", [], ["loss-spike"])], title="t")
    page = Page(tmp_path / "r.html")
    assert "args.yaml:4" in page.text
    assert 'title="runs/one/args.yaml:4"' in page.source
    assert "Healthy" in page.text


def test_what_could_not_be_checked_is_listed_with_what_it_needs(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    diagnosis = Diagnosis(make_run(), "undetermined", could_not_check={"clip-saturated": ("grad_norm", "clip_norm")})
    write_report(tmp_path / "r.html", [diagnosis], title="t")
    text = Page(tmp_path / "r.html").text
    assert "clip-saturatedgrad_norm, clip_norm" in text
    assert "Undetermined" in text
    assert "log: grad_norm" in text


def test_the_proof_shows_each_seed_and_the_interval(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    curves = [
        {"setting": s, "seed": 1, "series": "val/loss", "updates": [0, 100], "values": [4.0, v]}
        for s, v in (("base", 2.3), ("changed", "nan"))
    ]
    write_report(tmp_path / "r.html", [Diagnosis(make_run(), "healthy")], proof=proof(curves=curves), title="t")
    page = Page(tmp_path / "r.html")
    assert page.text.count("seed 2") == page.text.count("seed 3") == 1
    assert "The change helps." in page.text
    assert "interval −0.3500 to −0.2500, over 3 seeds" in page.text
    (chart,) = [f for f in page.figures if f["group"] == "proof"]
    assert [s["name"] for s in chart["series"]] == ["base, seed 1", "changed, seed 1"]
    assert chart["bad"][0]["x"] == [100]


@pytest.mark.parametrize("mean", ["nan", None, "inf"])
def test_a_proof_without_an_interval_says_so(tmp_path: Path, make_run: Callable[..., Run], mean: object) -> None:
    document = proof(
        verdict="cannot tell within the budget",
        difference={"mean": mean, "low": "nan", "high": "nan", "level": 0.95, "unit": "nats/token"},
        trials=[{"setting": "base", "seed": 1, "updates": 3, "val_loss": "nan"}],
        cost={},
    )
    write_report(tmp_path / "r.html", [Diagnosis(make_run(), "healthy")], proof=document, title="t")
    assert "The budget was too small to tell." in Page(tmp_path / "r.html").text


def test_several_runs_are_listed_first_with_their_verdicts(
    tmp_path: Path, make_run: Callable[..., Run], make_finding: Callable[..., Finding]
) -> None:
    both = [Diagnosis(make_run(), "sick", [make_finding()]), Diagnosis(make_run(), "healthy")]
    write_report(tmp_path / "sub" / "r.html", both, title="t")
    page = Page(tmp_path / "sub" / "r.html")
    assert "1 sick, 1 healthy" in page.text
    assert {f["group"] for f in page.figures} == {"run0", "run1"}
    assert len({f["id"] for f in page.figures}) == len(page.figures)


def test_a_place_that_cannot_be_written_is_one_sentence_and_keeps_the_old_file(
    tmp_path: Path, make_run: Callable[..., Run]
) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(tmp_path / "file" / "r.html", [Diagnosis(make_run(), "healthy")], title="t")
    assert (tmp_path / "file").read_text() == "old"


def test_numbers_read_as_people_write_them() -> None:
    numbers = (3e-5, 2.7532e-08, 0.25, 5000.0, 123456, math.nan, -math.inf, 0.0)
    assert [number(v) for v in numbers] == ["3e-5", "2.753e-8", "0.25", "5000", "123,456", "nan", "-inf", "0"]
    assert [setting(v) for v in (5e-5, 0.0003, None, True, [1, 2.5])] == ["5e-5", "0.0003", "null", "True", "1, 2.5"]


def test_the_history_of_several_runs_is_on_the_page(tmp_path: Path) -> None:
    levels = {1e-3: 1.5, 1e-4: 2.0, 1e-5: 3.0}
    paths = [write(tmp_path, f"run_{k}", level, lr=lr, note=EVIL) for k, (lr, level) in enumerate(levels.items())]
    runs = [run for path in paths for run in read_runs(path)]
    history = history_of(runs)
    write_report(tmp_path / "report.html", [diagnose(run) for run in runs], history=history, title="three")
    page = Page(tmp_path / "report.html")
    assert "run_0.jsonl to run_1.jsonl" in page.text
    assert "lr 1e-3 -> 1e-4" in page.text
    assert page.text.count("worse (noise up to") == 2
    assert all(found.title in page.text for found in history.findings)
    assert page.loads == []
