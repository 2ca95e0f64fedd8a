"""Labels: whether each fault had its effect, measured against the healthy runs of the same setup.

A fault counts only where it did something. The measure is never the log: it is the loss on clean samples by the plain
definition, or the quantity that the fault is about. Relative changes are differences of logarithms, so that levels of
different tasks compare; the noise is the spread of the healthy seeds, pooled over the setups of a family.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Any

from benchmarks.faults.catalogue import FAULTS
from benchmarks.faults.controls import CONTROLS

Record = Mapping[str, Any]

# Of a single run against the mean of three: 4 standard errors. With the 6 or more pooled degrees of freedom of three
# setups, Student's t exceeds that in less than 1 of 250 runs without effect.
STANDARD_ERRORS = 4.0
LEAST_HARM = 0.01  # ours: a loss 1 % worse is what another seed of a small model does, and what nobody would look for
LEAST_MISREPORT = 0.03  # ours: a reported loss 3 % off could be another draw of the validation set
LEAST_LOW = 0.5  # ours: reported at 60 % of what the task allows; less cannot be told from an easier text
LEAST_WAIT = 0.5  # the step waits longer than it works
LEAST_SLOWDOWN = 1.5  # ours: half as slow again at the end
LEAST_JUMP = 1.5  # ours: the learning rate half as high again after the resume
# A control may learn this much less than its siblings and is still a sound run: other sound settings differ as much.
SOUND = 0.08
TWICE = math.log(2)  # twice their loss is no sound run, however far apart the siblings are
NOT_OVERFIT = 0.05  # ours: the end of a healthy run is within 5 % of its best; its clean set has a few hundred samples


@dataclass(slots=True)
class Label:
    """What a diagnosis of the run should say.

    Attributes:
        verdict: "healthy", "faulty", "no-effect" (a fault that did nothing) or "unclear" (no run to learn from).
        expected: for each fault that had its effect, the rules that name it.
        accepted: further findings that are true of the run.
        needs: the most that a diagnosis needs: "log", "config", "pair" or "model".
        effects: fault -> what was measured.
    """

    verdict: str
    faults: tuple[str, ...] = ()
    expected: tuple[tuple[str, ...], ...] = ()
    accepted: frozenset[str] = frozenset()
    needs: str = "log"
    effects: dict[str, float] = field(default_factory=dict)


# Small models at a limit of 1 are clipped in most updates and none the worse with Adam: then it is a fact of the run.
MOSTLY_CLIPPED = 0.5
# The clock of `unstuck train` is the machine's, and the benchmark shares its machine.
SHARED_CLOCK = {"unstuck": frozenset({"throughput-falls"})}


def labels(records: Iterable[Record]) -> dict[str, Label]:
    """The label of every run by its id."""
    every = list(records)
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in every:
        if record["role"] == "healthy":
            groups[record["group"]].append(record)
    noise = _noise(groups)
    found: dict[str, Label] = {}
    for record in every:
        healthy = groups.get(record["group"], [])
        spread = noise.get(record["setup"]["family"], math.nan)
        if record["role"] == "fault":
            found[record["id"]] = _fault_label(record, healthy, spread)
        else:
            found[record["id"]] = _healthy_label(record, healthy, spread)
        found[record["id"]].accepted |= SHARED_CLOCK.get(record["setup"]["trainer"], frozenset())
        if record["outcome"]["slowdown"] >= LEAST_SLOWDOWN:  # the record says so, whoever took the time
            found[record["id"]].accepted |= {"throughput-falls"}
        if not all(math.isfinite(reported) for _, reported, _ in record["outcome"]["evaluations"]):
            found[record["id"]].accepted |= {"loss-not-finite"}  # some validation fields are; so the record says
        if record["outcome"]["clipped_share"] >= MOSTLY_CLIPPED:
            found[record["id"]].accepted |= {"clip-saturated"}
    return found


def _noise(groups: Mapping[str, list[Record]]) -> dict[str, float]:
    """Family -> standard deviation of the logarithm of the clean loss among seeds."""
    squares: dict[str, list[float]] = defaultdict(list)
    for members in groups.values():
        logs = [math.log(loss) for m in members if 0 < (loss := final(m)) < math.inf]
        if len(logs) >= 2:
            mean = fmean(logs)
            squares[members[0]["setup"]["family"]].append(sum((x - mean) ** 2 for x in logs) / (len(logs) - 1))
    return {family: math.sqrt(fmean(values)) for family, values in squares.items()}


def _healthy_label(record: Record, healthy: list[Record], spread: float) -> Label:
    accepted: frozenset[str] = frozenset()
    sound = _sound(record)
    if record["role"] == "control":
        accepted = frozenset(CONTROLS[record["names"][0]].accepted)
        alike = max(SOUND, min(TWICE, STANDARD_ERRORS * spread))
        sound = sound and bool(healthy) and harm(record, healthy) <= alike
    return Label("healthy" if sound else "unclear", accepted=accepted)


def _sound(record: Record) -> bool:
    """It ended where it should have, on numbers, and near its best."""
    losses = [loss for _, _, loss in record["outcome"]["evaluations"]]
    if not record["outcome"]["finite"] or not losses or not math.isfinite(losses[-1]):
        return False
    return math.log(losses[-1] / min(losses)) <= NOT_OVERFIT


def _fault_label(record: Record, healthy: list[Record], spread: float) -> Label:
    trained = record["outcome"].get("updates") != 0  # transformers: fewer samples than a batch, the last one dropped
    if not healthy or math.isnan(spread) or not trained:
        return Label("unclear", tuple(record["names"]))
    label = Label("no-effect", tuple(record["names"]))
    accepted: set[str] = set()
    order = ("log", "config", "pair", "model")
    for name in record["names"]:
        fault = FAULTS[name]
        measure, least = effect(fault.effect, record, healthy, spread)
        if name == "validation-shifted" and misreport(record) < LEAST_MISREPORT:
            measure = (
                0.0  # its samples came out no harder than the sound ones: there is no gap that a record could show
            )
        label.effects[name] = measure
        accepted |= {*fault.expected, *fault.accepted}
        if measure >= least:
            label.verdict = "faulty"
            label.expected += (fault.expected,)
            label.needs = max(label.needs, fault.needs, key=order.index)
    label.accepted = frozenset(accepted)
    return label


def effect(kind: str, record: Record, healthy: list[Record], spread: float) -> tuple[float, float]:
    """What was measured of the effect, and from where on it counts."""
    outcome = record["outcome"]
    error = STANDARD_ERRORS * spread * math.sqrt(1 + 1 / len(healthy))
    if kind == "loss":
        return harm(record, healthy), max(LEAST_HARM, error)
    if kind == "report":
        off = abs(misreport(record) - fmean(map(misreport, healthy)))
        return (off if math.isfinite(off) else 0.0), max(LEAST_MISREPORT, error)
    if kind == "low":
        reported = outcome["evaluations"][-1][1]
        usual = fmean(math.log(final(h)) for h in healthy)
        return (usual - math.log(reported) if 0 < reported < math.inf else 0.0), LEAST_LOW
    if kind == "rise":
        losses = [loss for _, _, loss in outcome["evaluations"] if math.isfinite(loss)]
        return (math.log(losses[-1] / min(losses)) if losses else math.inf), max(LEAST_HARM, error)
    if kind == "noise":
        scatter, movement = validation_scatter(record)
        return scatter / max(movement, LEAST_HARM), 1.0
    if kind == "wait":
        return outcome["wait_share"], LEAST_WAIT
    if kind == "slow":
        return outcome["slowdown"], LEAST_SLOWDOWN
    if kind == "finite":
        return float(not outcome["finite"] or not math.isfinite(final(record))), 1.0
    if kind == "ended":
        return float(outcome["ended"] != "completed"), 1.0
    if kind == "jump":
        return outcome["rate_jump"], LEAST_JUMP
    return 1.0, 1.0  # "fact": the log shows it by construction


def final(record: Record) -> float:
    """Clean loss at the end; infinite where there is none."""
    evaluations = record["outcome"]["evaluations"]
    loss = evaluations[-1][2] if evaluations else math.inf
    return float(loss) if math.isfinite(loss) else math.inf


def harm(record: Record, healthy: list[Record]) -> float:
    """How much worse the clean loss is than that of the healthy runs, as a difference of logarithms."""
    loss = final(record)
    return math.log(loss) - fmean(math.log(final(h)) for h in healthy) if loss < math.inf else math.inf


def misreport(record: Record) -> float:
    """Logarithm of the reported over the clean loss at the end."""
    _, reported, clean = record["outcome"]["evaluations"][-1]
    return math.log(reported / clean) if reported > 0 and clean > 0 and math.isfinite(reported * clean) else math.inf


def validation_scatter(record: Record) -> tuple[float, float]:
    """Over the second half: scatter of the reported against the clean loss, and how far the clean moves each time."""
    rows = record["outcome"]["evaluations"]
    rows = [row for row in rows[len(rows) // 2 :] if row[1] > 0 and row[2] > 0]
    if len(rows) < 3:
        return 0.0, math.inf
    off = [math.log(reported / clean) for _, reported, clean in rows]
    jumps = [(b - a) ** 2 for a, b in pairwise(off)]
    moves = [abs(math.log(b[2] / a[2])) for a, b in pairwise(rows)]
    return math.sqrt(fmean(jumps) / 2), fmean(moves)
