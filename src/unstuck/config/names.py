"""One table of setting names across frameworks: canonical name, unit, and what each dialect calls it.

A reader translates what it finds into canonical names with `canonical_settings`; a prescription is translated back
with `in_dialect`, so that the user reads `--max_grad_norm`, `grad_clip` or `training.clip_norm`, whichever is theirs.

The dialects: `unstuck` (our dotted keys), `huggingface` (TrainingArguments of transformers 4 and 5), `nanogpt` (its
config files), `environment` (the plain names in capitals) and `plain` (everything else: argparse, JSON, Lightning,
Keras, axolotl, hand-written loops). Values are translated in `config/values.py`.
"""

from __future__ import annotations

from unstuck.config.name import Name as Name
from unstuck.config.names_of_model_and_data import MODEL_AND_DATA
from unstuck.config.names_of_training import TRAINING

NAMES: tuple[Name, ...] = (*TRAINING, *MODEL_AND_DATA)
