"""What the curves of a report show, as plain JSON; `templates/report.js` draws it.

Nothing is dropped unseen: non-finite points are kept as marked updates, and a long series is thinned to the extremes
of its buckets, so that every spike stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from unstuck.diagnose.engine import Diagnosis
from unstuck.runs import Run, Series
from unstuck.runs.run import Floats, Ints

MAX_POINTS = 2000  # about two for each pixel column of a chart on a wide screen
MAX_BAD_MARKS = 200
# Fewer points are readable as they are; a longer noisy series gets a line of bucket medians over its noise.
TREND_FROM_POINTS = 120
TREND_POINTS = 120
NOISY_SHARE = 0.02  # of the height of the chart, about 5 pixels
MAX_LANES = 6
# Rates that differ more than this cannot be read on one linear axis.
LOG_FROM_RATIO = 30.0

# (id, heading, unit, prefixes of the series shown); evidence on a series marks the chart that shows it.
CHARTS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("loss", "Loss", "nats per token", ("train/loss", "train/loss_eval", "train/objective", "val/loss")),
    ("lr", "Learning rate by group", "per update", ("lr/",)),
    ("norm", "Gradient norm", "L2 norm", ("grad_norm/preclip", "grad_norm/postclip")),
    ("layers", "Gradient norm by layer", "L2 norm", ("grad_norm/layer",)),
    ("clipped", "Clipped share of updates", "share", ("grad_norm/clipped_share",)),
    ("ratio", "Update size against weights", "ratio", ("update_ratio/",)),
    ("speed", "Throughput", "tokens per second", ("throughput/",)),
    ("time", "Time", "ms or share", ("time/",)),
)
MAIN_CHARTS = ("loss", "lr", "norm")


def thin(x: Ints, y: Floats, most: int = MAX_POINTS) -> tuple[Ints, Floats]:
    """At most `most` points: lowest and highest of equal buckets, in order. x and y have shape (n,), y is finite."""
    n = len(y)
    if n <= most:
        return x, y
    edges = np.linspace(0, n, most // 2 + 1).astype(np.int64)[:-1]
    # Position of each bucket's extreme: sorting by (bucket, value) puts it first and last of its bucket.
    bucket = np.searchsorted(edges, np.arange(n), side="right") - 1
    order = np.lexsort((y, bucket))
    ends = np.append(edges[1:], n) - 1
    keep = np.unique(np.concatenate([order[edges], order[ends]]))
    return x[keep], y[keep]


def charts(diagnosis: Diagnosis, run_id: str) -> list[dict[str, Any]]:
    """The charts of one run, the three main ones first; a chart without any series is left out."""
    run = diagnosis.run
    drawn = []
    for kind, heading, unit, prefixes in CHARTS:
        names = [n for prefix in prefixes for n in run.series if n == prefix or _below(n, prefix)]
        shown = [run.series[n] for n in dict.fromkeys(names) if len(run.series[n])]
        by_unit: dict[str, list[Series]] = {}
        for series in shown:
            by_unit.setdefault(unit if kind in MAIN_CHARTS else series.unit or unit, []).append(series)
        for index, (its_unit, members) in enumerate(by_unit.items()):
            units = {s.unit for s in members if s.unit}
            drawn.append(
                {
                    "id": f"{run_id}-{kind}" + (f"-{index}" if index else ""),
                    "group": run_id,
                    "heading": heading + (f": {_leaf(members[0])}" if len(by_unit) > 1 and len(members) == 1 else ""),
                    "range": [-0.02, 1.02] if kind == "clipped" else None,
                    "unit": next(iter(units)) if len(units) == 1 else its_unit,
                    "main": kind in MAIN_CHARTS,
                    "log": kind in ("lr", "layers") and _spread(members) > LOG_FROM_RATIO,
                    "series": [trace for s in members for trace in _traces(s)],
                    "bad": [b for s in members if (b := _bad(s))],
                    "lanes": _lanes(diagnosis, prefixes, run_id),
                    "levels": _levels(run, kind),
                    "marks": _marks(run),
                }
            )
    return drawn


def _leaf(series: Series) -> str:
    return series.name.rsplit("/", 1)[-1].replace("_", " ")


def _below(name: str, prefix: str) -> bool:
    return name.startswith(prefix if prefix.endswith("/") else prefix + "/")


def _spread(shown: Sequence[Series]) -> float:
    peaks = [float(np.max(s.values[np.isfinite(s.values)], initial=0.0)) for s in shown]
    peaks = [p for p in peaks if p > 0]
    return max(peaks) / min(peaks) if peaks else 1.0


def _traces(series: Series) -> list[dict[str, Any]]:
    finite = series.finite()
    if not len(finite):
        return []
    x, y = thin(finite.updates, finite.values)
    trace = {"name": series.name, "x": x.tolist(), "y": _rounded(y), "role": "line"}
    if len(y) <= 60:
        trace["role"] = "points"
    if len(finite) < TREND_FROM_POINTS or not _noisy(finite.values):
        return [trace]
    trace["role"] = "raw"
    edges = np.linspace(0, len(finite), TREND_POINTS + 1).astype(np.int64)
    middle = [float(np.median(finite.values[a:b])) for a, b in pairwise(edges)]
    centre = finite.updates[(edges[:-1] + edges[1:] - 1) // 2]
    smooth = {"name": f"{series.name}, running median", "x": centre.tolist(), "y": _rounded(np.array(middle))}
    return [trace, {**smooth, "role": "trend"}]


def _noisy(values: Floats) -> bool:
    """Whether neighbouring points differ so much that a line through them is a band."""
    low, high = np.percentile(values, [5, 95])
    return bool(np.median(np.abs(np.diff(values))) > NOISY_SHARE * (high - low))


def _bad(series: Series) -> dict[str, Any] | None:
    """Where a series is nan or infinite, drawn as marks on the chart's floor."""
    wrong = ~np.isfinite(series.values)
    count = int(wrong.sum())
    if not count:
        return None
    updates, values = series.updates[wrong], series.values[wrong]
    step = -(-count // MAX_BAD_MARKS)
    return {
        "name": series.name,
        "count": count,
        "of": len(series),
        "first": int(updates[0]),
        "x": updates[::step].tolist(),
        "kind": [_word(v) for v in values[::step]],
    }


def _word(value: float) -> str:
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _lanes(diagnosis: Diagnosis, prefixes: Sequence[str], run_id: str) -> list[dict[str, Any]]:
    """One lane above the chart for each finding with evidence on its series: the spans of updates, and a label."""
    lanes = []
    for finding in diagnosis.findings:
        spans = [
            [int(e.updates[0]), int(e.updates[1])]
            for e in finding.found.evidence
            if any(e.series == p.rstrip("/") or _below(e.series, p) for p in prefixes)
        ]
        if spans:
            lanes.append(
                {
                    "rank": finding.rank,
                    "label": finding.rule.name,
                    "severity": finding.severity,
                    "spans": [list(span) for span in dict.fromkeys(map(tuple, spans))],
                    "target": f"{run_id}-finding-{finding.rank}",
                }
            )
    return lanes[:MAX_LANES]


def _levels(run: Run, kind: str) -> list[dict[str, Any]]:
    """Horizontal lines to judge a curve by: chance (ln V) for the loss, the clip limit for the norm."""
    if kind == "loss":
        vocabulary = run.setting("vocabulary")
        if isinstance(vocabulary, int | float) and vocabulary > 1:
            return [{"y": math.log(vocabulary), "label": f"chance: ln {int(vocabulary):,}"}]
    if kind == "norm":
        limit = run.setting("clip_norm")
        if isinstance(limit, int | float) and limit > 0:
            return [{"y": float(limit), "label": f"clip limit {limit:g}"}]
    return []


def _marks(run: Run) -> list[dict[str, Any]]:
    """Vertical lines where the run was resumed."""
    return [{"x": e.update, "label": "resumed"} for e in run.events_of("resume") if e.update is not None]


def proof_charts(proof: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Base against changed over the updates, from the optional `curves` of a proof.

    Each curve is {"setting": "base" | "changed", "seed": int, "series": "val/loss", "updates": [...], "values": [...]},
    non-finite values as numbers or as "nan", "inf", "-inf".
    """
    by_series: dict[str, list[dict[str, Any]]] = {}
    for curve in proof.get("curves") or []:
        x = np.array(curve["updates"], dtype=np.int64)
        y = np.array([math.nan if v is None else float(v) for v in curve["values"]], dtype=np.float64)
        finite = np.isfinite(y)
        xs, ys = thin(x[finite], y[finite])
        role = "changed" if curve["setting"] == "changed" else "base"
        name = f"{role}, seed {curve['seed']}"
        by_series.setdefault(str(curve.get("series", "val/loss")), []).append(
            {"name": name, "x": xs.tolist(), "y": _rounded(ys), "role": role, "bad": _bad_curve(name, x, y)}
        )
    return [
        {
            "id": f"proof-{index}",
            "group": "proof",
            "heading": f"{series}: base against changed",
            "unit": str((proof.get("difference") or {}).get("unit") or "nats per token").replace("/", " per "),
            "main": True,
            "log": False,
            "series": [{k: v for k, v in c.items() if k != "bad"} for c in curves],
            "bad": [c["bad"] for c in curves if c["bad"]],
            "lanes": [],
            "levels": [],
            "marks": [],
        }
        for index, (series, curves) in enumerate(by_series.items())
    ]


def _bad_curve(name: str, x: Ints, y: Floats) -> dict[str, Any] | None:
    return _bad(Series(name, x, y, np.zeros(len(x), dtype=np.int64), ""))


def _rounded(values: Floats) -> list[float]:
    """Six significant digits: more cannot be seen and doubles the file."""
    return [float(f"{v:.6g}") for v in values]
