"""A roll-out as one self-contained HTML file: error per step, and the fields beside the solver's."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unstuck.errors import UserError
from unstuck.wording import plural

if TYPE_CHECKING:
    from unstuck.evaluate.rollout import Rollout


def write_rollout(path: Path, rollout: Rollout, *, title: str) -> None:
    """Write the page.

    Raises:
        UserError: the file cannot be written.
    """
    pictures = _pictures(rollout)
    pieces = [
        _errors(rollout).to_html(full_html=False, include_plotlyjs=True),
        pictures.to_html(full_html=False, include_plotlyjs=False),
    ]
    summary = (
        f"{plural(len(rollout.errors), 'roll-out')} of {plural(rollout.steps, 'step')} from records "
        f"{', '.join(map(str, rollout.starts))} of the test trajectories, which training never saw. "
        f"Relative L2 error after 1 step: {rollout.one_step:.4f}; after {rollout.steps}: "
        f"{rollout.errors[:, -1].mean():.4f}."
    )
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        "<style>body{font-family:system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}</style></head>"
        f"<body><h1>{html.escape(title)}</h1><p>{html.escape(summary)}</p>{''.join(pieces)}</body></html>\n"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"The page {path} cannot be written ({error.strerror}); name another place.") from None


def _errors(rollout: Rollout) -> Any:
    """Mean error per step with the band of four fifths of the roll-outs, and giving the first field back."""
    import plotly.graph_objects as go

    steps = np.arange(1, rollout.steps + 1)
    low, high = np.percentile(rollout.errors, [10, 90], axis=0)
    band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    figure = go.Figure(
        [
            go.Scatter(x=steps, y=high, **band),
            go.Scatter(x=steps, y=low, fill="tonexty", fillcolor="rgba(31,119,180,0.2)", **band),
            go.Scatter(x=steps, y=rollout.errors.mean(axis=0), name="operator (band: 10 % to 90 %)"),
            go.Scatter(x=steps, y=rollout.repeated.mean(axis=0), name="first field given back", line={"dash": "dot"}),
        ]
    )
    figure.update_layout(
        title="Error against the solver", xaxis_title="steps ahead, on its own predictions", yaxis_title="relative L2"
    )
    figure.update_yaxes(type="log")
    return figure


def _pictures(rollout: Rollout) -> Any:
    """One column a step: the solver's field, the operator's, and their difference on the same scale."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    labels = ["start", *(f"step {step}" for step in rollout.shown)]
    rows = {"solver": rollout.true, "operator": rollout.predicted, "difference": rollout.predicted - rollout.true}
    figure = make_subplots(
        rows=3, cols=len(labels), column_titles=labels, row_titles=list(rows), vertical_spacing=0.03,
        horizontal_spacing=0.01,
    )  # fmt: skip
    limit = float(np.abs(rollout.true).max())
    for row, fields in enumerate(rows.values(), start=1):
        for column, field in enumerate(fields, start=1):
            heat = go.Heatmap(z=field.T.round(4), zmin=-limit, zmax=limit, colorscale="RdBu", showscale=column == 1)
            figure.add_trace(heat, row=row, col=column)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor="x")
    figure.update_layout(height=720, title="Vorticity of one test trajectory")
    return figure
