"""Published learning rates by optimizer, phase, kind of model, size and parameter group, each with its source.

The data are those of `learning_rates.py`; here they are looked up for a run. A scale is never a verdict by itself: a
rule asks for evidence in the loss as well. Where nothing is published for a case the answer is None, and the rule that
asked says so.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from unstuck.diagnose.case import Case
from unstuck.diagnose.known_models import model_of, start_of
from unstuck.diagnose.learning_rates import ADAMS, Range, Recipe, find_range, ranges, step_law

# In this order: "adamw" before "adam". What none of them begins stays as it is written.
KNOWN = ("adamw", "adafactor", "adamax", "radam", "nadam", "adam", "lamb", "lion", "muon", "sgd", "sophia", "prodigy")
LANGUAGE = frozenset({"causal-lm", "masked-lm", "seq2seq"})
SHOWN_RECIPES = 2  # so many sources are printed beside a scale

# Settings that name what is trained, by the last part of their key, and the words in them.
NAMING = frozenset({"model", "arch", "architecture", "model_name", "model_type", "network", "dataset", "data",
                    "problem", "equation", "name", "path", "source"})  # fmt: skip
KINDS = (
    ("neural-operator", re.compile(r"\b(?:[tsu]?fno\w*|uno|gino|deeponet)\b|neural.?operator|navier|darcy|burgers")),
    ("tabular", re.compile(r"tabular|ft.?transformer|tabnet|california.?housing")),
    ("diffusion", re.compile(r"diffusion|\bddpm|\bdit[-_]")),
    ("vision", re.compile(r"resne|\bvit\b|\bvit[-_]|deit|convnext|efficientnet|mobilenet|\bvgg|densenet|\bswin|cifar|"
                          r"imagenet|mnist|\bunet")),
)  # fmt: skip
# Keys of soft prompts: peft PromptTuningConfig and PrefixTuningConfig, ChatGLM, PrefixTuning.
PROMPTS = frozenset({"num_virtual_tokens", "pre_seq_len", "preseqlen", "prefix_length", "prompt_length"})
# Names of parameter groups, in this order: "unembedding" before "embedding".
GROUPS = (
    ("matrices", re.compile(r"muon|matri", re.I)),
    ("head", re.compile(r"head|unembed", re.I)),
    ("embedding", re.compile(r"emb|wte|wpe", re.I)),
    ("scalars", re.compile(r"scalar|norm|bias|gain|lambda|\bln", re.I)),
)


@dataclass(frozen=True, slots=True)
class Scale:
    """Learning rates that are reported to work: `low` to `high`, `typical` between them, and who says so."""

    low: float
    typical: float
    high: float
    source: str
    name: str = ""


LORA = next(Scale(row.low, row.typical, row.high, row.why, row.name) for row in ranges() if row.name == "LoRA")


def optimizer_of(case: Case) -> str | None:
    """The optimizer in lower case without its implementation (`adamw_torch_fused` -> `adamw`); None where unknown."""
    setting = case.run.settings.get("optimizer")
    if setting is None or not setting.value:
        # nanoGPT and build-nanogpt train with nothing else (configure_optimizers of both)
        return (
            "adamw"
            if case.run.format.startswith(("nanogpt", "build-nanogpt")) or case.run.dialect == "nanogpt"
            else None
        )
    name = str(setting.value).lower()
    if re.search(r"schedule.?free", f"{name} {setting.written}".lower()):
        return "schedule-free-sgd" if "sgd" in name else "schedule-free-adamw"
    return next((known for known in KNOWN if name.startswith(known)), name)


def phase_of(case: Case) -> str | None:
    """`fresh`, `fine-tuning`, `lora`, `prompt` or `preference`; None: unknown.

    From the settings and the logged series, else from the first loss against ln V.
    """
    if any("rewards" in name and ("chosen" in name or "margins" in name) for name in case.run.series):
        return "preference"  # as TRL and the preference trainers built on it log
    if case.setting("lora_rank"):
        return "lora"
    if any(
        key.rpartition(".")[2].lower() in PROMPTS and setting.value for key, setting in case.run.raw_settings.items()
    ):
        return "prompt"
    start = start_of(case)
    if start is not None:
        return "fresh" if start == "fresh" else "fine-tuning"
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


def model_kind_of(case: Case, phase: str | None) -> str:
    """The kind of model in the words of the data file; a run that names none is taken for a causal language model."""
    task = case.setting("task")
    if task in LANGUAGE:
        return str(task)
    words = " ".join(
        str(setting.value).lower()[:200]
        for key, setting in case.run.raw_settings.items()
        if key.rpartition(".")[2].lower() in NAMING and isinstance(setting.value, str)
    )
    named = next((kind for kind, pattern in KINDS if pattern.search(words)), None)
    if named is not None:
        return named
    if case.loss is not None and case.loss.unit is not None and "relative" in case.loss.unit:
        return "neural-operator"
    if task is None and case.classes is None:
        return "causal-lm"
    return "vision" if task == "classification" and phase == "fresh" else "any"


def group_of(case: Case, algorithm: str | None) -> tuple[str, str | None]:
    """(group, optimizer) of the learning rate that `case.lr` shows, in the words of the data file.

    Beside Muon, embeddings, heads and scalars are trained by Adam at rates of their own; elsewhere a group is `all`.
    """
    name = "" if case.lr is None else case.lr.name.removeprefix("lr/")
    optimizer = algorithm or optimizer_of(case)
    groups = case.run.learning_rates()
    has_muon = optimizer == "muon" or any("muon" in g.lower() or case.algorithm_of(g) == "muon" for g in groups)
    if not has_muon:
        return "all", optimizer
    role = next((role for role, pattern in GROUPS if pattern.search(name)), None)
    if algorithm == "muon" or role == "matrices":
        return "matrices", "muon"
    if role is not None:
        return role, "adam"
    # a rate of its own for Muon beside AdamW's is in units of the spectral norm; matched steps share AdamW's
    return ("matrices" if optimizer == "muon" and case.setting("muon_learning_rate") else "all"), optimizer


def published_scale(case: Case, *, group_algorithm: str | None = None) -> Scale | None:
    """The scale for this run's optimizer, phase, kind of model, size and group; None where nothing published fits.

    Args:
        case: the run.
        group_algorithm: the optimizer of one parameter group, where groups differ (Muon for matrices).
    """
    phase = phase_of(case)
    group, optimizer = group_of(case, group_algorithm)
    if optimizer is None or phase is None:
        return None
    model = model_kind_of(case, phase)
    size = _parameters(case, phase)
    row = find_range(optimizer, "from-scratch" if phase == "fresh" else phase, model, size, group)
    return None if row is None else _with_law(case, row, model, size)


def highest_scale(case: Case, *, group_algorithm: str | None = None) -> Scale | None:
    """As `published_scale`, and where the phase is unknown the most permissive scale of the Adam family."""
    scale = published_scale(case, group_algorithm=group_algorithm)
    optimizer = group_algorithm or optimizer_of(case)
    if scale is None and phase_of(case) is None and optimizer in ADAMS:
        row = find_range("adam", "any")
        if row is not None:
            return Scale(row.low, row.typical, row.high, "no phase or size is trained beyond it", row.name)
    return scale


def _parameters(case: Case, phase: str) -> float | None:
    """Parameters that the scale goes by: as set; by the shape of a transformer from scratch; of a model known by name
    where all of them are trained."""
    written, blocks = case.setting("parameters"), _blocks(case)
    if written and float(written) > 0:
        return float(written)
    if phase == "fresh" and blocks is not None:
        return blocks + float(case.setting("vocabulary") or 0) * float(case.setting("width") or 0)
    named = model_of(case)
    return named.model.parameters if named is not None and phase in ("fine-tuning", "preference") else None


def _with_law(case: Case, row: Range, model: str, size: float | None) -> Scale:
    """The scale of a row with its nearest sources; a proven law may reach higher than the recipes do."""
    source = "; ".join(f"{r.name}: {r.rate} ({r.source})" for r in _nearest(row, size)) or row.why
    high = row.high
    law = step_law()
    if "adam" in row.optimizers and row.phases == ("from-scratch",) and row.group == "all" and model == "causal-lm":
        n, tokens = _blocks(case), _tokens(case)
        best = law.rate(n, tokens) if n is not None and tokens is not None else None
        if best is not None and n is not None and tokens is not None:
            high = max(high, law.within * best)
            source += (
                f"; {law.name} gives {best:.2g} for {n / 1e6:,.0f}M parameters and {tokens / 1e9:.3g}B tokens"
                f" ({law.source})"
            )
    return Scale(row.low, row.typical, high, source, row.name)


def _nearest(row: Range, size: float | None) -> list[Recipe]:
    """The recipes of a row nearest in size (or to its typical rate), each from another source."""

    def distance(recipe: Recipe) -> float:
        if size and recipe.parameters is not None:
            low, high = recipe.parameters
            return 0.0 if low <= size <= high else min(abs(math.log(size / low)), abs(math.log(size / high)))
        return 10.0 + abs(math.log(recipe.typical / row.typical))

    chosen: dict[str, Recipe] = {}
    for recipe in sorted(row.recipes(), key=distance):
        chosen.setdefault(recipe.source, recipe)
    return list(chosen.values())[:SHOWN_RECIPES]


def _blocks(case: Case) -> float | None:
    """Parameters without embeddings: 12 x layers x width^2 (Kaplan et al., arXiv 2001.08361, table 1)."""
    layers, width = case.setting("layers"), case.setting("width")
    return 12.0 * layers * width**2 if layers and width else None


def _tokens(case: Case) -> float | None:
    if case.tokens_per_update is None or case.planned_updates is None:
        return None
    return case.tokens_per_update * case.planned_updates
