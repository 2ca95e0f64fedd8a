"""Weight decay acts on biases or on the gains of norms.

Finds
A parameter group of norms or biases with weight decay, a list of exceptions that is empty, or a count of tensors
without decay that is zero, while the weight decay is above zero.

Why it matters
Decay pulls a norm's gain towards 0, where it was meant to be near 1, and a bias has no scale to be held small for; the
network pays a part of each step to push them back.

Evidence needed
What the configuration or the log says about groups: ours in the start event, nanoGPT's "num non-decayed parameter
tensors", keys such as `no_decay` or `weight_decay_norm`. Plain logs do not say it.

Not when
The transformers Trainer made the groups (it leaves biases and norms out); decay is zero; what is decayed beside the
matrices is the embedding only. The configuration alone makes it a note, never a sickness: OLMo 2 decays its norms on
purpose (`decay_norm_and_bias`) and trains well.

Remedy
Put tensors of fewer than two dimensions into a group with weight_decay 0.

References
transformers `trainer.py` (get_decay_parameter_names), nanoGPT `model.py` (configure_optimizers: tensors below two
dimensions are not decayed). OLMo 2, arXiv 2501.00656, and its `configs/official-1124`. He et al., Bag of Tricks,
arXiv 1812.01187 (no bias decay). Loshchilov, Hutter, arXiv 1711.05101 (a decayed weight shrinks by rate x decay in each
update).
"""

from __future__ import annotations

import math
import re

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.own_keys import as_number, by_transformers, own_settings
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.runs import Setting

EXCEPTIONS = frozenset({"no_decay", "no_weight_decay", "no_decay_names", "no_decay_params", "no_decay_patterns",
                        "exclude_from_weight_decay", "weight_decay_exclude", "no_weight_decay_list"})  # fmt: skip
OWN_DECAY = frozenset({"weight_decay_norm", "norm_weight_decay", "weight_decay_bias", "bias_weight_decay", "wd_norm"})
EVERYTHING = frozenset({"decay_norm_and_bias", "decay_norms", "decay_all", "weight_decay_all", "decay_all_parameters"})
UNDECAYED = frozenset({"num_non_decayed_parameter_tensors", "non_decayed_parameter_tensors"})
NORMS = re.compile(r"norm|bias|scalar|gain|(^|[._])ln")
EMBEDDINGS = re.compile(r"embed|wte|wpe|head")


@rule(code="MO006", stages="CP", severity="note")
def check(case: Case) -> Outcome:
    decay = as_number(case.setting("weight_decay"))
    groups = case.run.raw_settings.get("groups")
    if groups is not None and isinstance(groups.value, dict):
        return _by_groups(case, groups)
    for setting in own_settings(case.run, OWN_DECAY):
        value = as_number(setting.value)
        if value is not None and value > 0:
            return _found(case, setting, f"{setting.key} is {value:g}: norms or biases are decayed", value)
    if decay is None:
        return CouldNotCheck(("weight_decay", "the parameter groups of the optimizer"))
    if decay == 0:
        return Clear("there is no weight decay")
    for setting in own_settings(case.run, EVERYTHING):
        if setting.value is True:
            return _found(case, setting, f"{setting.key} is on: weight decay {decay:g} acts on norms and biases", decay)
    for setting in own_settings(case.run, EXCEPTIONS):
        if isinstance(setting.value, list | tuple | str) and not setting.value:
            return _found(case, setting, f"{setting.key} is empty: weight decay {decay:g} acts on every tensor", decay)
        if isinstance(setting.value, list | tuple | str):
            return Clear(f"{setting.key} leaves tensors out")
    for setting in own_settings(case.run, UNDECAYED):
        count = setting.value[0] if isinstance(setting.value, list | tuple) and setting.value else setting.value
        if count == 0:
            return _found(case, setting, f"Weight decay {decay:g} acts on every tensor: none is left out", decay)
        return Clear(f"{count} tensors are not decayed")
    if by_transformers(case.run):
        return Clear("the transformers Trainer leaves biases and norms out of the decay")
    return CouldNotCheck(("the parameter groups of the optimizer",))


def _by_groups(case: Case, setting: Setting) -> Outcome:
    decayed: dict[str, float] = {}
    for name, group in setting.value.items():
        value = as_number(group.get("weight_decay")) if isinstance(group, dict) else None
        if value is not None and value > 0:
            decayed[str(name).lower()] = value
    norms = {name: value for name, value in decayed.items() if NORMS.search(name)}
    if norms:
        name, value = next(iter(norms.items()))
        return _found(case, setting, f"The parameter group {name} has weight decay {value:g}", value)
    embeddings = {name: value for name, value in decayed.items() if EMBEDDINGS.search(name)}
    if embeddings:
        name, value = next(iter(embeddings.items()))
        return _found(case, setting, f"The parameter group {name} has weight decay {value:g}", value, embeddings=True)
    return Clear("no group of norms or biases is decayed")


def _found(case: Case, setting: Setting, title: str, decay: float, *, embeddings: bool = False) -> Found:
    pull = _pull(case, decay)
    told = f"; over the run it takes {pull:.1%} of them away" if pull is not None and not embeddings else ""
    last = int(case.run.updates)
    evidence = [Evidence(setting.key, (0, last), "weight decay", decay, 0.0, setting.source)]
    if pull is not None:
        statistic = "share that decay alone takes away, 1 - exp(-sum of rate x decay)"
        evidence.append(Evidence("weight_decay", (0, last), statistic, pull, None, setting.source))
    return Found(title + told, tuple(evidence), 0.9, None, "", {"key": setting.key, "weight_decay": decay})


def _pull(case: Case, decay: float) -> float | None:
    """What decoupled decay takes of a weight over the run; None where the learning rate is not known."""
    rate = as_number(case.setting("learning_rate"))
    if case.lr is not None and len(case.lr) >= 2:
        total = float(np.dot(np.diff(case.lr.updates), (case.lr.values[1:] + case.lr.values[:-1]) / 2))
    elif rate and case.run.updates:
        total = 0.5 * float(rate) * case.run.updates  # a decaying schedule's mean is half
    else:
        return None
    return 1 - math.exp(-decay * total) if 0 <= decay * total < math.inf else None
