"""Mend the count that is wrong; the learning rate itself stays as it is."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies import schedule_wrong_horizon
from unstuck.remedies._common import advice, counted_warmup, fact

# Fault of the arithmetic (diagnose/lr_arithmetic.py) -> what to change in the code. No setting expresses these.
MENDS = {
    "step/micro": "Advance the schedule once per optimizer update, inside the same `if` as optimizer.step().",
    "step/world": "Advance the schedule once per update, not once per device.",
    "step/epoch": "Advance the schedule after every optimizer update, not after every epoch.",
    "step/never": "Call scheduler.step() once after each optimizer update.",
    "step/resume": "Save the schedule's state in the checkpoint and load it when resuming.",
    "resume/old": "After loading the optimizer's state, set the learning rate of every group to the new one.",
    "horizon/micro": "Give the schedule its length in optimizer updates: divide micro-batches by the accumulation.",
    "horizon/divided": "Do not divide the horizon by the accumulation: it is in updates already.",
    "horizon/world": "Give the schedule its length in optimizer updates: divide by the number of devices.",
    "horizon/updates": "Pass the horizon that was asked for to the schedule instead of the planned updates.",
    "horizon/epoch": "Give the schedule the length of the whole run, not of one epoch.",
    "warmup/planned": "Take the warm-up share of the schedule's own horizon.",
    "warmup/zero": "Multiply the warm-up share by the horizon before casting it to an integer: int(0.1) is 0.",
    "warmup/micro": "Give the warm-up in optimizer updates: do not multiply it by the accumulation.",
    "warmup/divided": "Do not divide the warm-up by the accumulation: it is in updates already.",
    "factor/none": "Apply the group's factor to its learning rate.",
    "factor/twice": "Apply the group's factor once, not in the optimizer and in the schedule.",
    "factor/other": "Give each parameter group its own factor: the groups are in another order than their factors.",
}
SCALED = "Take the scaling of the learning rate out of the code, or configure the learning rate that is meant to apply."


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    told = found.facts.get("faults")
    faults = [str(fault) for fault in told] if isinstance(told, (tuple, list)) else []
    cause = found.facts.get("cause")
    answer: list[Remedy] = []
    horizon_wrong = any(f.startswith("horizon/") for f in faults) or (not faults and fact(found, "horizon_applied"))
    if horizon_wrong:
        answer += [r for r in schedule_wrong_horizon.remedies(case, found) if r.patch]
    said = str(found.facts.get("arithmetic", ""))
    for fault in faults:
        if fault == "warmup/zero" and (counted := counted_warmup(case)) is not None:
            answer.append(counted)
        answer.append(advice(MENDS.get(fault, SCALED), said))
    if not answer:
        named = f" ({cause})" if cause else ""
        answer.append(advice(f"Mend the count that the arithmetic names{named}, not the learning rate.", said))
    return tuple(answer)
