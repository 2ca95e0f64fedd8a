"""Known bugs of real projects, put in on purpose (`inject_fault`) for `unstuck demo` and the benchmarks.

Each is one function that the loop always calls; without its fault it returns what it was given. Diagnosis never looks
at `inject_fault`: it has to find these from the record.
"""

from __future__ import annotations

from collections.abc import Mapping

from unstuck.config.schema import Config, ScheduleConfig


def schedule_of(config: Config) -> ScheduleConfig:
    """The schedule that is really applied.

    warmup-cast-to-zero (incident I3, LTG-BERT on BabyLM): one key meant both a share and a count, and the code cast it:
    int(0.1) = 0, so a share gives no warm-up at all, while a count, int(60) = 60, works.
    """
    schedule = config.schedule
    if config.inject_fault != "warmup-cast-to-zero":
        return schedule
    written = schedule.warmup_updates if schedule.warmup_updates is not None else (schedule.warmup_share or 0.0)
    return schedule.model_copy(update={"warmup_updates": int(written), "warmup_share": None})


def rates_after_resume(config: Config, asked: Mapping[str, float], restored: Mapping[str, float]) -> dict[str, float]:
    """Base learning rate per group with which a resumed run goes on.

    resume-keeps-old-lr (incident I4, GPT-2 on questions and answers): loading the optimizer's state also loads its old
    learning rate over the one that was asked for; the header says 1e-5, the lines say 5e-06.
    """
    if config.inject_fault != "resume-keeps-old-lr":
        return dict(asked)
    return {name: restored.get(name, rate) for name, rate in asked.items()}
