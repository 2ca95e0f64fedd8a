"""Rows that differ in their digits only give the numbers that each of them gives alone."""

from __future__ import annotations

import math
import random
import re
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unstuck.runs.readers import read_runs
from unstuck.runs.text_fields import fields_of, numbers_of, signed
from unstuck.runs.text_lines import decimals_of, value_of

FORMS = ("{:.4f}", "{:.3e}", "{!r}", "{:.0f}", "{:+.2f}", "{:,.1f}", "{:g}", "{:.17g}", "{:.0f}.", "{:E}")
PATTERN = re.compile(r"loss ([-+.\d,eEnNaAiIfFty]++) of (\S++) é\Z")


@given(
    st.sampled_from(FORMS),
    st.lists(st.floats(allow_nan=True) | st.floats(-1e6, 1e6), min_size=1, max_size=8),
    st.integers(0, 10**12),
)
def test_the_numbers_of_rows_of_one_sign_are_those_that_float_reads(form: str, values: list[float], count: int):
    rows = [f"loss {form.format(value)} of {count} é" for value in values]
    text, begins, by_sign = signed(rows)
    assert sorted(place for places in by_sign.values() for place in places) == list(range(len(rows)))
    for places in by_sign.values():
        match = PATTERN.match(rows[places[0]])
        assert match is not None
        fields = fields_of(match)
        if fields is None:  # `inf.` is no number: such rows are matched one by one
            assert not all(map(math.isfinite, (values[place] for place in places)))
            continue
        read = numbers_of(text, begins[places], fields)
        written = [rows[place].split()[1] for place in places]
        expected = np.array([[value_of(number), count] for number in written])
        assert np.array_equal(read, expected, equal_nan=True)
        assert np.array_equal(np.signbit(read), np.signbit(expected))
        if re.search(r"\d", written[0]):
            assert fields[0].decimals == decimals_of(written[0])


def test_a_word_that_is_no_number_is_none():
    match = re.match(r"(\S+) (\S+)", "1.2.3 4")
    assert match is not None
    assert fields_of(match) is None


def test_many_rows_are_read_as_few_are(tmp_path: Path):
    draw = random.Random(0)
    rows = [
        f"[2024-05-01 1{k % 10}:00:{k % 60:02d}] Step {k * 10}: loss {draw.lognormvariate(0, 2):.4f} "
        f"lr {draw.random() / 10 ** draw.randrange(7)!r} top-1 {draw.random():.1%} grad_norm {draw.random() * 1e3:,.2f}"
        for k in range(3000)
    ]
    rows[1500] = re.sub(r"loss \S+", "loss nan", rows[1500])
    (tmp_path / "a.log").write_text("\n".join(rows) + "\n")
    (run,) = read_runs(tmp_path / "a.log")
    told = [re.search(r"Step (\d+): loss (\S+) lr (\S+)", row) for row in rows]
    assert run.series["train/loss"].updates.tolist() == [int(found[1]) for found in told if found]
    assert run.series["train/loss"].lines.tolist() == list(range(1, 3001))
    assert np.array_equal(run.series["train/loss"].values, [float(found[2]) for found in told if found], equal_nan=True)
    assert run.series["lr/all"].values.tolist() == [float(found[3]) for found in told if found]


def test_rows_that_differ_in_the_digits_of_their_words_stay_apart(tmp_path: Path):
    rows = [f"step {k} acc@{5 if k % 2 else 1}: {k / 4000:.4f} loss: {2 - k / 4000:.4f}\n" for k in range(1000)]
    (tmp_path / "a.log").write_text("".join(rows))
    (run,) = read_runs(tmp_path / "a.log")
    assert len(run.series["train/loss"]) == 1000
    accuracies = [series for series in run.series.values() if "acc" in (series.logged_as or series.name)]
    assert sorted(len(series) for series in accuracies) == [500, 500]
