"""Published learning rates as data: recipes, the scales that they span, laws and ratios between groups.

Read from `data/learning_rates.json`, whose `about` says what each field means; every row has its source and how it was
checked. `docs/scales.md` prints the tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from unstuck.diagnose.lr_readings import number
from unstuck.diagnose.tables import table

Sizes = tuple[float, float]

# Optimizers that take Adam's rates: NAdam, RAdam and AdaMax are Adam with another start or norm (torch: 1e-3, 2e-3).
ADAMS = frozenset({"adam", "adamw", "nadam", "adamax", "radam"})


@dataclass(frozen=True, slots=True)
class Recipe:
    """A published learning rate (or range) with the training that it belongs to; see `about` in the data file."""

    name: str
    optimizer: str
    phase: str
    model: str
    parameters: Sizes | None
    group: str
    low: float
    typical: float
    high: float
    holds: str
    source: str
    checked: str

    @property
    def rate(self) -> str:
        """`6e-4`, or `1e-4 to 7e-4` of a range."""
        return number(self.typical) if self.low == self.high else f"{number(self.low)} to {number(self.high)}"


@dataclass(frozen=True, slots=True)
class Range:
    """A row of scales: the range `low` to `high`, what it is for, and why it reaches beyond its recipes."""

    name: str
    optimizers: tuple[str, ...]
    phases: tuple[str, ...]
    models: tuple[str, ...]
    parameters: Sizes | None
    group: str
    low: float
    typical: float
    high: float
    why: str

    def recipes(self) -> tuple[Recipe, ...]:
        """The published rates inside this range's optimizers, phases, models, group and sizes."""
        return tuple(recipe for recipe in recipes() if self._holds(recipe))

    def _holds(self, recipe: Recipe) -> bool:
        same = family(recipe.optimizer) in self.optimizers and recipe.phase in self.phases
        fits = recipe.model in self.models and recipe.group == self.group
        if self.parameters is None or recipe.parameters is None:
            return same and fits
        low, high = self.parameters
        return same and fits and low < recipe.parameters[1] and recipe.parameters[0] <= high


@dataclass(frozen=True, slots=True)
class Law:
    """A rate from size and data: coefficient x N^n x D^d, true to a factor of `within` between two sizes."""

    name: str
    coefficient: float
    n: float
    d: float
    least_parameters: float
    most_parameters: float
    within: float
    holds: str
    source: str
    checked: str

    def rate(self, parameters: float, tokens: float) -> float | None:
        """The rate for N parameters without embeddings and D tokens; None where the law is unproven."""
        if not self.least_parameters <= parameters <= self.most_parameters or tokens <= 0:
            return None
        return float(self.coefficient * parameters**self.n * tokens**self.d)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A group that is trained at `ratio` of another one's rate on purpose."""

    name: str
    kind: str
    ratio: float
    holds: str
    source: str
    checked: str


@cache
def recipes() -> tuple[Recipe, ...]:
    """Every published rate of the data file."""
    found = []
    for row in table("learning_rates")["recipes"]:
        low, typical, high = row["rates"]
        sizes, group = _sizes(row.get("parameters")), row.get("group", "all")
        found.append(
            Recipe(row["name"], row["optimizer"], row["phase"], row["model"], sizes, group, low, typical, high,
                   row["holds"], row["source"], row["checked"])
        )  # fmt: skip
    return tuple(found)


@cache
def ranges() -> tuple[Range, ...]:
    """Every scale of the data file, in the order in which they are tried."""
    found = []
    for row in table("learning_rates")["scales"]:
        low, typical, high = row["rates"]
        sizes, group = _sizes(row.get("parameters")), row.get("group", "all")
        found.append(
            Range(row["name"], tuple(row["optimizers"]), tuple(row["phases"]), tuple(row["models"]), sizes, group, low,
                  typical, high, row["why"])
        )  # fmt: skip
    return tuple(found)


@cache
def step_law() -> Law:
    """Li et al.: the best learning rate of AdamW pretraining from size and tokens."""
    return next(Law(**row) for row in table("learning_rates")["laws"] if row["name"] == "Step Law")


@cache
def ratios() -> tuple[Ratio, ...]:
    """Published ratios between parameter groups."""
    return tuple(Ratio(**row) for row in table("learning_rates")["ratios"])


def lowest_ratio(kind: str) -> Ratio:
    """The furthest apart that groups are trained on purpose; `kind`: beside-embeddings, pretrained-body, ladder."""
    return min((ratio for ratio in ratios() if ratio.kind == kind), key=lambda ratio: ratio.ratio)


def family(optimizer: str) -> str:
    """`adam` for all that take Adam's rates, else the optimizer's own name."""
    return "adam" if optimizer in ADAMS else optimizer


def find_range(
    optimizer: str, phase: str, model: str = "any", parameters: float | None = None, group: str = "all"
) -> Range | None:
    """The first scale for these words of the data file (None: nothing is published for them).

    Args:
        optimizer: as `optimizer_of` names it.
        phase: from-scratch, fine-tuning, instruction-tuning, preference, lora or prompt.
        model: kind of model; one without a scale of its own is `any`.
        parameters: trained parameters; None: unknown.
        group: all, matrices, embedding, head or scalars.
    """
    for kind in dict.fromkeys((model, "any")):
        for row in ranges():
            fits = family(optimizer) in row.optimizers and phase in row.phases and kind in row.models
            if fits and row.group == group and _size_fits(row, parameters):
                return row
    return None


def _size_fits(row: Range, parameters: float | None) -> bool:
    if row.parameters is None:
        return True
    return parameters is not None and row.parameters[0] <= parameters <= row.parameters[1]


def _sizes(written: object) -> Sizes | None:
    if isinstance(written, list):
        return float(written[0]), float(written[1])
    return (float(written), float(written)) if isinstance(written, int | float) else None
