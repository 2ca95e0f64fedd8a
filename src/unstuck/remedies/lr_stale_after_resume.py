"""Start with the new settings instead of the checkpoint's: weights kept, optimizer and schedule new."""

from __future__ import annotations

from pathlib import Path

from unstuck.config.patch import Change
from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, fact, key

HOW = {
    "unstuck": "Resume with the rate on the command line: unstuck train --resume RUN {key}={rate}.",
    "huggingface": "Load the checkpoint as the model and train without --resume_from_checkpoint, which restores the "
    "old schedule: --model_name_or_path CHECKPOINT --{key} {rate}.",
}
PLAIN = (
    "After loading the optimizer's state, set group['lr'] (and group['initial_lr']) of every group to {rate} and build "
    "the schedule anew: the state holds the old rate."
)


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    asked = fact(found, "asked_lr") or fact(found, "expected_lr") or case.setting("learning_rate")
    rate = f"{asked:.3g}" if asked else "the new rate"
    text = HOW.get(case.run.dialect, PLAIN).format(key=key(case, "learning_rate"), rate=rate)
    reason = "torch restores 'lr' and 'initial_lr' with the optimizer's state (torch.optim.Optimizer.load_state_dict)"
    if case.run.dialect == "unstuck":  # our own loop can leave the stale state behind
        folder = str(Path(case.run.source).parent if case.run.source.endswith(".jsonl") else case.run.source)
        anew = f"Start anew from the weights of {folder}, with {rate} and without the saved optimizer and schedule."
        change = Change("start_from", case.setting("start_from"), folder)
        return Remedy(anew, "unsafe", (change,), reason), advice(text, reason)
    return (advice(text, reason),)
