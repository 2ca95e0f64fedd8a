"""How many classes a classifier tells apart, as the settings name it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from unstuck.diagnose.own_keys import MAX_KEYS, by_transformers, own_number, own_settings
from unstuck.runs import Run
from unstuck.runs.names import normalise

CLASS_KEYS = frozenset({
    "num_classes", "n_classes", "nb_classes", "num_class", "n_class", "number_of_classes", "classes", "num_labels",
    "n_labels", "num_categories", "n_categories", "num_tags", "n_tags", "tagset_size", "num_intents", "num_keywords",
    "num_phones", "num_pdfs", "num_senones",
})  # fmt: skip
# Names of the classes, as a list or as a table from or to their numbers (transformers' configurations).
NAMES_OF_CLASSES = CLASS_KEYS | {
    "class_names", "class_labels", "label_names", "label_list", "labels", "tags", "categories", "intents",
}  # fmt: skip
TABLES_OF_CLASSES = ("id2label", "label2id")
# Of any head, a regression's as well: Kaldi and ESPnet write `num_targets`.
OUTPUT_KEYS = frozenset({"num_targets", "n_targets", "num_outputs", "n_outputs"})
MOST_LOG_CLASSES = 11.0  # ours: e^11 = 60,000 classes
LANGUAGE = ("causal-lm", "masked-lm", "seq2seq")
UNSET = 2  # transformers' number of labels where none is set, of a language model as well (PretrainedConfig)


def classes_named(run: Run) -> int | None:
    """The number of classes of a classifier; None where the settings do not name it.

    Detectors and segmentation have classes as well, and a loss with other terms in it: something must say that this is
    a classifier (its task, an accuracy, label smoothing, or transformers' word `num_labels`). A classifier of text has
    a vocabulary too, which its loss is not over.
    """
    task, vocabulary = run.setting("task"), run.setting("vocabulary")
    if task in LANGUAGE or task == "regression":
        return None
    measured = any(run.get(f"{split}/accuracy") is not None for split in ("train", "val"))
    # TrainingArguments name a smoothing whatever the task; elsewhere only a loss over classes has one
    smoothing = run.setting("label_smoothing") is not None and not by_transformers(run)
    says = task == "classification" or measured or (smoothing and not vocabulary)
    for count, key in _counts(run):
        if count < 2 or math.log(count) > MOST_LOG_CLASSES:
            continue
        if vocabulary and task is None and (key in OUTPUT_KEYS or count in (UNSET, vocabulary)):
            continue
        if says or key.endswith("labels"):
            return count
    return None


def _counts(run: Run) -> Iterator[tuple[int, str]]:
    """(count, last part of its key, normalised) of all that may be a number of classes, the plainest first."""
    if (found := own_number(run, CLASS_KEYS)) is not None and found[0].is_integer():
        yield int(found[0]), normalise(found[1].key.rpartition(".")[2])
    for setting in own_settings(run, NAMES_OF_CLASSES):
        names = setting.value
        if isinstance(names, list) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
            yield len(names), "classes"
    for table in TABLES_OF_CLASSES:
        ways = [key.split(".") for key in list(run.raw_settings)[:MAX_KEYS] if table in key]
        yield len({way[-1] for way in ways if len(way) > 1 and way[-2] == table}), "classes"
    if (found := own_number(run, OUTPUT_KEYS)) is not None and found[0].is_integer():
        yield int(found[0]), normalise(found[1].key.rpartition(".")[2])
