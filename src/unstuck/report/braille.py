"""A small plot in characters: two dots across and four down in every Braille cell."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # Unicode block "Braille Patterns", dots by row
_BASE = 0x2800


def plot(x: Floats, y: Floats, *, columns: int, rows: int, low: float, high: float) -> list[str]:
    """The curve y over x as `rows` lines of `columns` characters, highest value first.

    Args:
        x: positions, shape (n,), not decreasing.
        y: values, shape (n,); non-finite ones leave a gap.
        low: the value of the lowest dot.
        high: the value of the highest dot.
    """
    width, height = 2 * columns, 4 * rows
    cells = np.zeros((rows, columns), dtype=np.int64)
    place = positions(x, width)
    previous: tuple[int, int] | None = None
    spread = high - low
    for dot_x in range(width):
        here = y[place == dot_x]
        here = here[np.isfinite(here)]
        if not len(here):
            continue
        levels = np.clip((here - low) / spread if spread > 0 else np.full(len(here), 0.5), 0.0, 1.0)
        dots = np.round((1.0 - levels) * (height - 1)).astype(int)
        top, bottom = int(dots.min()), int(dots.max())
        for dot_y in range(top, bottom + 1):
            _set(cells, dot_x, dot_y)
        first = int(dots[0])
        if previous is not None and dot_x - previous[0] > 1:
            _line(cells, previous, (dot_x, first))
        previous = dot_x, int(dots[-1])
    return ["".join(chr(_BASE + int(cell)) if cell else " " for cell in row) for row in cells]


def positions(x: Floats, width: int) -> npt.NDArray[np.int64]:
    """The column, 0 to width - 1, of every x."""
    spread = float(x[-1] - x[0]) if len(x) else 0.0
    if spread <= 0:
        return np.zeros(len(x), dtype=np.int64)
    place: npt.NDArray[np.int64] = np.minimum(((x - x[0]) / spread * (width - 1)).round().astype(np.int64), width - 1)
    return place


def _set(cells: npt.NDArray[np.int64], dot_x: int, dot_y: int) -> None:
    cells[dot_y // 4, dot_x // 2] |= _DOTS[dot_y % 4][dot_x % 2]


def _line(cells: npt.NDArray[np.int64], start: tuple[int, int], end: tuple[int, int]) -> None:
    """A straight line of dots between two columns that hold points, exclusive."""
    for dot_x in range(start[0] + 1, end[0]):
        share = (dot_x - start[0]) / (end[0] - start[0])
        _set(cells, dot_x, round(start[1] + share * (end[1] - start[1])))
