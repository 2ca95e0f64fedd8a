"""The proof in a report: verdict, the paired differences with their interval, trials and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from unstuck.report.html_text import esc, number, setting
from unstuck.wording import plural

WIDTH, LEFT, RIGHT, LANE = 720, 96, 28, 26
SENTENCES = {
    "better": "The change helps.",
    "worse": "The change makes it worse.",
    "no difference shown": "No difference was shown.",
    "cannot tell within the budget": "The budget was too small to tell.",
}


def pairs(proof: Mapping[str, Any]) -> list[tuple[int, float, float]]:
    """(seed, base, changed) validation losses of the seeds that have both, in order; diverged trials are nan."""
    losses: dict[int, dict[str, float]] = {}
    for trial in proof.get("trials") or []:
        value = trial.get("val_loss")
        loss = math.nan if value is None else float(value)
        losses.setdefault(int(trial["seed"]), {})[str(trial["setting"])] = loss
    return [
        (s, both["base"], both["changed"]) for s, both in sorted(losses.items()) if {"base", "changed"} <= set(both)
    ]


def summary(proof: Mapping[str, Any]) -> str:
    """For the top of the page: the measured effect in one figure."""
    verdict = str(proof.get("verdict", ""))
    return (
        f'<h3>Measured effect</h3><p class="effect {_class(verdict)}">{_effect(proof)}</p>'
        f"<p>{esc(SENTENCES.get(verdict, verdict))} {_interval_words(proof)}</p>"
    )


def proof_body(proof: Mapping[str, Any]) -> str:
    """The whole proof: sentence, interval plot, trials, changes, cost."""
    verdict = str(proof.get("verdict", ""))
    changes = "".join(
        f'<span class="del">- {esc(c["key"])}: {esc(setting(c.get("old")))}</span>'
        f'<span class="add">+ {esc(c["key"])}: {esc(setting(c.get("new")))}</span>'
        for c in proof.get("changes") or []
    )
    rows = "".join(
        f"<tr><td class=n>{seed}</td><td class=n>{esc(number(base))}</td><td class=n>{esc(number(changed))}</td>"
        f"<td class=n><b>{esc(_signed(changed - base))}</b></td></tr>"
        for seed, base, changed in pairs(proof)
    )
    table = (
        "<table class='trials'><tr><th class=n>seed</th><th class=n>base</th><th class=n>changed</th>"
        f"<th class=n>difference</th></tr>{rows}</table>"
        if rows
        else ""
    )
    cost = proof.get("cost") or {}
    tokens = cost.get("tokens")
    trained, unit = (int(cost.get("examples", 0)), "fields") if tokens is None else (int(tokens), "tokens")
    spent = (
        f"<p class='aside'>Cost: {plural(int(cost.get('runs', 0)), 'run')}, {number(cost.get('seconds', 0))} s, "
        f"{trained:,} {unit}. Same start, data order and {unit} in each pair; validation loss in "
        f"{esc((proof.get('difference') or {}).get('unit', 'nats/token'))}, lower is better.</p>"
        if cost
        else ""
    )
    return (
        f'<p class="lead"><b class="{_class(verdict)}">{esc(SENTENCES.get(verdict, verdict))}</b> '
        f"{_interval_words(proof)}</p>"
        f"{interval_plot(proof)}{f'<pre class=diff>{changes}</pre>' if changes else ''}"
        f'<div class="scroll">{table}</div>{spent}'
    )


def interval_plot(proof: Mapping[str, Any]) -> str:
    """One dot for each seed's difference, the mean with its interval, the zero line: an inline SVG."""
    difference = proof.get("difference") or {}
    mean, low, high = (_float(difference.get(k)) for k in ("mean", "low", "high"))
    dots = [(seed, changed - base) for seed, base, changed in pairs(proof)]
    finite = [v for v in [0.0, mean, low, high, *(d for _, d in dots)] if math.isfinite(v)]
    if len(finite) < 2:
        return ""
    least, most = min(finite), max(finite)
    pad = (most - least) * 0.08 or 1e-3
    least, most = least - pad, most + pad

    def x(value: float) -> float:
        return LEFT + (value - least) / (most - least) * (WIDTH - LEFT - RIGHT)

    height = LANE * (len(dots) + 1) + 40
    parts = [f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="6" y2="{height - 30}"/>']
    for lane, (seed, value) in enumerate(dots):
        y = 20 + LANE * lane
        parts.append(f'<text class="who" x="0" y="{y + 4}">seed {seed}</text>')
        if math.isfinite(value):
            parts.append(f'<line class="stem" x1="{x(0):.1f}" x2="{x(value):.1f}" y1="{y}" y2="{y}"/>')
            parts.append(f'<circle cx="{x(value):.1f}" cy="{y}" r="4.5"><title>{_signed(value)}</title></circle>')
        else:
            parts.append(
                f'<text class="diverged" x="{LEFT}" y="{y + 4}">a trial diverged ({esc(number(value))})</text>'
            )
    y = 20 + LANE * len(dots)
    parts.append(f'<text class="who strong" x="0" y="{y + 4}">mean</text>')
    if math.isfinite(low) and math.isfinite(high):
        parts.append(
            f'<rect class="interval" x="{x(low):.1f}" width="{x(high) - x(low):.1f}" y="{y - 5}" height="10"/>'
        )
    if math.isfinite(mean):
        parts.append(f'<rect class="mean" x="{x(mean) - 1.5:.1f}" width="3" y="{y - 9}" height="18"/>')
    for value in _ticks(least, most):
        parts.append(f'<text class="tick" x="{x(value):.1f}" y="{height - 8}">{_tick(value)}</text>')
    label = f"Paired differences: {_effect(proof)}"
    return (
        f'<svg class="pairs" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{esc(label)}">{"".join(parts)}</svg>'
    )


def _ticks(least: float, most: float) -> list[float]:
    """Round values inside (least, most), zero among them when it lies there."""
    raw = (most - least) / 5
    step = 10.0 ** math.floor(math.log10(raw))
    step *= next(f for f in (1, 2, 5, 10) if f * step >= raw)
    first = math.ceil(least / step)
    return [round(k * step, 12) for k in range(first, math.floor(most / step) + 1)]


def _tick(value: float) -> str:
    return f"{value:+g}".replace("-", "\u2212") if value else "0"


def _interval_words(proof: Mapping[str, Any]) -> str:
    difference = proof.get("difference") or {}
    low, high = _float(difference.get("low")), _float(difference.get("high"))
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    level = _float(difference.get("level", 0.95))
    return (
        f"Validation loss changes by {_effect(proof)} {esc(difference.get('unit', 'nats/token'))}, "
        f"{level:.0%} interval {_signed(low)} to {_signed(high)}, over {plural(len(pairs(proof)), 'seed')}."
    )


def _effect(proof: Mapping[str, Any]) -> str:
    return _signed(_float((proof.get("difference") or {}).get("mean")))


def _signed(value: float) -> str:
    if not math.isfinite(value):
        return "not measured" if math.isnan(value) else number(value)
    return (f"{value:+.4f}" if abs(value) >= 1e-4 or value == 0 else f"{value:+.1e}").replace("-", "\u2212")


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def _class(verdict: str) -> str:
    return {"better": "good", "worse": "wrong"}.get(verdict, "open")
