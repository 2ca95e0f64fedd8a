"""Published learning-rate scales by optimizer, phase and size, each with its source and the range where it holds.

A scale is a range that papers and reference recipes report as working, and its middle. It is never a verdict by
itself: a rule asks for evidence in the loss as well. Where nothing is published for a case the answer is None, and the
rule that asked says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from unstuck.diagnose.case import Case


@dataclass(frozen=True, slots=True)
class Scale:
    """Learning rates that are reported to work: `low` to `high`, `typical` between them, and who says so."""

    low: float
    typical: float
    high: float
    source: str


# Pretraining with Adam or AdamW by trainable parameters (upper limit of the row).
ADAM_FROM_SCRATCH: tuple[tuple[float, Scale], ...] = (
    (20e6, Scale(3e-4, 1e-3, 1e-2, "nanoGPT config/train_shakespeare_char.py: 1e-3 ('baby networks can go higher')")),
    (200e6, Scale(1e-4, 6e-4, 4e-3, "GPT-3 125M: 6e-4 (arXiv 2005.14165, table 2.1); Pythia 70M: 1e-3")),
    (2e9, Scale(6e-5, 3e-4, 2e-3, "GPT-3 350M-1.3B: 3e-4 to 2e-4 (arXiv 2005.14165, table 2.1)")),
    (1e15, Scale(2e-5, 1.2e-4, 6e-4, "GPT-3 6.7B-175B: 1.2e-4 to 6e-5 (arXiv 2005.14165, table 2.1)")),
)
# What no phase or size goes beyond, for the question whether a rate is too high: the most permissive of the rows.
ADAM_AT_MOST = Scale(5e-6, 1e-3, 1e-2, "Adam, arXiv 1412.6980: 1e-3; nanoGPT's small models: 1e-3, 'can go higher'")
ADAM_UNKNOWN_SIZE = Scale(2e-5, 3e-4, 1e-2, "the widest range of the sizes above")
ADAM_OTHER_TASKS = Scale(
    1e-4, 1e-3, 1e-2, "Kingma, Ba, Adam, arXiv 1412.6980: alpha = 0.001; FNO arXiv 2010.08895: 1e-3"
)
FINE_TUNING = Scale(5e-6, 3e-5, 5e-4, "BERT arXiv 1810.04805: 2e-5 to 5e-5; GPT: 6.25e-5; used to 1e-4 and above")
LORA = Scale(1e-4, 2e-4, 5e-3, "LoRA arXiv 2106.09685, table 11: 2e-4; QLoRA arXiv 2305.14314: 1e-4 to 2e-4")
MUON = Scale(2e-2, 3e-2, 5e-2, "Jordan et al., Muon (2024): 0.02 to 0.05; modded-nanogpt, nanochat: 0.02")
LAMB = Scale(6e-4, 5e-3, 2e-2, "You et al., LAMB, arXiv 1904.00962: 6e-4 to 5e-3; LTG-BERT, arXiv 2303.09859: 1e-2")
LION_SHARE = 1 / 5  # Chen et al., Lion, arXiv 2302.06675, section 5: 3-10 times below AdamW's

ADAMS = frozenset({"adam", "adamw", "nadam", "adamax", "radam", "adafactor"})


def optimizer_of(case: Case) -> str | None:
    """The optimizer in lower case without its implementation (`adamw_torch_fused` -> `adamw`); None where unknown."""
    name = case.setting("optimizer")
    if not name:
        # nanoGPT trains with nothing else (model.py, configure_optimizers)
        return "adamw" if case.run.format.startswith("nanogpt") or case.run.dialect == "nanogpt" else None
    name = str(name).lower()
    known = ("adamw", "adafactor", "adamax", "radam", "nadam", "adam", "lamb", "lion", "muon", "sgd")
    return next((k for k in known if name.startswith(k)), name)


def phase_of(case: Case) -> str | None:
    """`fresh`, `fine-tuning` or `lora`: from the settings, else from the first loss against ln V; None: unknown."""
    if case.setting("lora_rank"):
        return "lora"
    if case.start is not None:
        return "fresh" if case.start == "fresh" else "fine-tuning"
    first = first_loss(case)
    if first is None or not case.is_token_loss or case.chance is None:
        return None
    # An untrained model starts at ln V and a little above; a trained one far below (GPT-2: 3.6 of 10.8).
    if 0.97 * case.chance <= first <= 1.2 * case.chance:
        return "fresh"
    return "fine-tuning" if first < 0.7 * case.chance else None


def first_loss(case: Case) -> float | None:
    """The training loss of the first logged update, within the first 20 updates; else validation before training."""
    if case.loss is not None and case.loss.updates[0] <= 20:
        return float(case.loss.values[0])
    if case.val is not None and case.val.updates[0] <= 1:
        return float(case.val.values[0])
    return None


def published_scale(case: Case, *, group_algorithm: str | None = None) -> Scale | None:
    """The scale for this run's optimizer, phase, task and size; None where nothing published fits.

    Args:
        case: the run.
        group_algorithm: the optimizer of one parameter group, where groups differ (Muon for matrices).
    """
    optimizer = group_algorithm or optimizer_of(case)
    phase = phase_of(case)
    if optimizer == "muon":
        return MUON if phase == "fresh" else None
    if optimizer == "lamb":
        return LAMB if phase == "fresh" else None
    share = LION_SHARE if optimizer == "lion" else 1.0
    if optimizer not in ADAMS and optimizer != "lion":
        return None
    scale = _adam_scale(case, phase)
    return scale and Scale(scale.low * share, scale.typical * share, scale.high * share, scale.source)


def highest_scale(case: Case, *, group_algorithm: str | None = None) -> Scale | None:
    """As `published_scale`, and where the phase is unknown the most permissive scale of the Adam family."""
    scale = published_scale(case, group_algorithm=group_algorithm)
    if scale is None and phase_of(case) is None and (group_algorithm or optimizer_of(case)) in ADAMS:
        return ADAM_AT_MOST
    return scale


def _adam_scale(case: Case, phase: str | None) -> Scale | None:
    if phase == "lora":
        return LORA
    if phase == "fine-tuning":
        return FINE_TUNING
    if phase is None:
        return None
    if case.setting("task") not in (None, "causal-lm", "masked-lm", "seq2seq"):
        return ADAM_OTHER_TASKS
    parameters = case.setting("parameters")
    if not parameters:
        return ADAM_UNKNOWN_SIZE
    return next(scale for limit, scale in ADAM_FROM_SCRATCH if parameters <= limit)
