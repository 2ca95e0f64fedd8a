"""The effective batch changed and the learning rate did not follow.

Finds
A resume at which batch x accumulation x devices became at least twice as large or half as small while the learning
rate stayed or moved the other way. Between two runs the history says the same.

Why it matters
The step that a learning rate allows grows with the batch that its gradient is averaged over. The same rate at a
smaller batch is noisier, at a larger one it wastes what the batch costs.

Evidence needed
A resume that says which settings it changed, batch size and learning rate among the settings; `train/loss` to see
whether it did harm.

Not when
The split into micro-batches changed and the effective batch did not; the learning rate moved in the batch's direction
by half of what the square-root rule asks or more. A batch that is raised on purpose instead of lowering the rate
(Smith et al.) looks the same, so without harm in the loss it is a note.

Remedy
Scale the learning rate by the batch's ratio (SGD) or by its root (Adam), or keep the old effective batch by
accumulation.

References
Goyal et al., arXiv 1706.02677 (linear). Malladi et al., arXiv 2205.10287 (square root for Adam). Smith et al.,
arXiv 1711.00489 (raising the batch instead of lowering the rate). Incident I3 (72 to 256).
"""

from __future__ import annotations

from unstuck.diagnose import statistics
from unstuck.diagnose.batch_scaling import BatchChange, not_followed
from unstuck.diagnose.case import Case
from unstuck.diagnose.changes import ResumeChange, effective_batch, resume_changes
from unstuck.diagnose.lr_readings import number
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule

WINDOW = 12  # points on each side: `level` knows its error from about 9 on (assumption)


@rule(code="SE005", stages="C", severity="note", explains=("loss-spike",))
def check(case: Case) -> Outcome:
    resumed = list(case.run.events_of("resume"))
    if not resumed:
        return Clear("the run was not resumed: one configuration holds throughout")
    known = resume_changes(case.run)
    if not known and not any("changed" in event.data for event in resumed):
        return CouldNotCheck(("the settings before the resume",))
    for change in known:
        found = not_followed(change.before, change.after)
        if found is not None:
            return _found(case, change, found)
    if any(effective_batch(change.before) is None for change in known):
        return CouldNotCheck(("batch_size",))
    if any("learning_rate" not in change.after for change in known):
        return CouldNotCheck(("learning_rate",))
    return Clear("no resume changed the batch without the learning rate")


def _found(case: Case, change: ResumeChange, found: BatchChange) -> Found:
    update = change.event.update or 0
    stayed = "stayed" if found.kept else f"went to {number(found.new_lr)} from"
    title = (
        f"At the resume at update {update:,} the effective batch went from {found.old_batch:,.0f} to "
        f"{found.new_batch:,.0f} and the learning rate {stayed} {number(found.old_lr)}"
    )
    ratio = found.new_batch / found.old_batch
    evidence = [Evidence("batch_size", (update, update), "new batch / old batch", ratio, None, change.event.source)]
    harm = _harm(case, update)
    if harm is not None:
        evidence.append(harm)
    detail = f"{found.rule}: {number(found.old_lr)} becomes {number(float(f'{found.asked:.2g}'))}."
    facts: dict[str, object] = {
        "asked_lr": found.asked,
        "applied_lr": found.new_lr,
        "old_batch": found.old_batch,
        "new_batch": found.new_batch,
        "update": update,
    }
    confidence = 0.8 if harm is not None else 0.6
    return Found(title, tuple(evidence), confidence, "warning" if harm is not None else "note", detail, facts)


def _harm(case: Case, update: int) -> Evidence | None:
    """A training loss that lies higher after the change than before it, beyond its noise."""
    if case.loss is None:
        return None
    before = case.loss.where(case.loss.updates <= update).values[-WINDOW:]
    after = case.loss.where(case.loss.updates > update)
    if len(before) < WINDOW or len(after) < WINDOW:
        return None
    old, old_error = statistics.level(before)
    new, new_error = statistics.level(after.values[:WINDOW])
    limit = statistics.student_z(statistics.false_alarm_z(1), WINDOW) * float((old_error**2 + new_error**2) ** 0.5)
    if not new - old > limit:
        return None
    span = (int(case.loss.updates[case.loss.updates <= update][-WINDOW]), int(after.updates[WINDOW - 1]))
    return Evidence("train/loss", span, "rise of its level over the resume", new - old, limit, after.source(0))
