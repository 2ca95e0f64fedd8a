"""Several settings were changed at once, so that what followed cannot be assigned to one of them.

Finds
A resume that changed two or more levers (learning rate, batch, clip, dropout ...) at the same update. Between runs the
history finds it.

Why it matters
A better or worse loss after the change is evidence for none of its parts. In incident I0 forty settings changed in
five days without one recorded metric; in I2 rate, clip and patience changed in one step.

Evidence needed
A resume that says which settings it changed, or a header printed on both sides of it.

Not when
The settings are one lever (a rate and its floor, batch and accumulation at the same effective batch, rank and alpha),
or change nothing about learning (length, seed, evaluation, logging, places).

Remedy
Change one lever at a time, or measure: `unstuck prove RECIPE --change key=value` for each of them alone.

References
Fisher, The Design of Experiments, 1935 (confounding). Incidents I0 and I2. Godbole et al., Deep Learning Tuning
Playbook (one scientific parameter at a time, the others are nuisance or fixed).
"""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.changes import levers, resume_changes, told
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule

LEAST_LEVERS = 2  # two are enough to confound


@rule(code="SE004", stages="C", severity="note")
def check(case: Case) -> Outcome:
    resumed = list(case.run.events_of("resume"))
    if not resumed:
        return Clear("the run was not resumed: nothing changed within it")
    known = resume_changes(case.run)
    if not known and not any("changed" in event.data for event in resumed):
        return CouldNotCheck(("the settings before the resume",))
    several = [(change, moved) for change in known if len(moved := levers(change.changes)) >= LEAST_LEVERS]
    if not several:
        return Clear("no resume changed more than one setting that matters")
    change, moved = max(several, key=lambda entry: len(entry[1]))
    update = change.event.update or 0
    changed = [entry for entries in moved.values() for entry in entries]
    title = f"{len(moved)} settings changed at once at the resume at update {update:,}: {told(changed)}"
    evidence = (
        Evidence(changed[0].key, (update, update), "settings changed at once", float(len(moved)), 1.0,
                 change.event.source),
    )  # fmt: skip
    facts: dict[str, object] = {"update": update, "levers": tuple(moved)}
    return Found(title, evidence, 0.9, None, "What follows is the effect of all of them together.", facts)
