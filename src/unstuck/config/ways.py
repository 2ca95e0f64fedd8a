"""The way to a key (`model.encoder` of `model.encoder.depth`): what it is about, and which names it rules out.

A setting is found by the last part of its key wherever it is nested, because every program nests in its own way. Some
names mean something else below another subject: the `horizon` of a forecast is no schedule's, `env.max_steps` ends an
episode, and `data.clip` limits pixels. Which words name a subject, and which names it contradicts, is ours: from what
configurations of such programs hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

# Groups of keys that say something about another model, program or split than the training itself.
ELSEWHERE = {"lora", "lora_config", "peft", "peft_config", "eval", "evaluation", "val", "validation", "test", "wandb",
             "logging", "generation", "tokenizer", "teacher", "discriminator", "ema", "early_stopping"}  # fmt: skip
_OTHER_SPLIT = frozenset(("val", "valid", "validation", "eval", "evaluation", "test", "dev"))  # of `val_dataloader`

_SUBJECTS = {
    "data": "data dataset datasets dataloader loader input inputs image images img video audio text corpus augment "
            "augmentation augmentations aug transform transforms preprocessing preprocess features spectrogram split",
    "model": "model net network backbone encoder decoder arch architecture embedding embeddings attention attn block",
    "world": "env environment task simulation simulator sim physics pde reward agent replay rollout rollouts "
             "exploration game forecast forecasting",
    "process": "diffusion noise sampler sampling sde ode flow kl temperature curriculum masking mcmc",
    "record": "metric metrics callback callbacks checkpoint checkpoints checkpointing ckpt save saving profiler plot "
              "benchmark inference predict prediction export deploy logger log swa",
    "loss": "loss losses criterion",
    "warmup": "warmup",
    "schedule": "sched scheduler schedule lr",
    "optimizer": "optim optimizer opt",
    "training": "train training trainer",
}  # fmt: skip
_SUBJECT_OF = {word: subject for subject, words in _SUBJECTS.items() for word in words.split()}

# Canonical name -> what may mean something else (spellings), and below which subjects it does.
_OTHERWISE: tuple[tuple[str, str, str], ...] = (
    ("updates", "steps max_steps total_steps num_steps n_steps max_iters num_iters n_iters iterations num_iterations "
     "total_iters max_iterations updates max_updates num_updates total_updates max_update max_iter total_iterations "
     "iters max_step total_step", "data model world process record warmup schedule"),
    ("epochs", "epochs n_epochs num_epochs max_epochs nb_epochs nepochs total_epochs max_epoch num_epoch n_epoch",
     "world process record warmup schedule"),
    ("horizon_updates", "t_max decay_steps schedule_steps", "data model world process record loss"),
    ("schedule", "schedule scheduler sched", "data world process record loss"),
    ("schedule_cycles", "cycles num_cycles n_cycles", "data model world process record loss"),
    ("warmup_updates", "warmup warmup_steps warmup_updates warmup_iters n_warmup warmup_iterations num_warmup_steps "
     "warm_up_steps", "data world process record loss"),
    ("warmup_share", "warmup_ratio warmup_share warmup_frac warmup_fraction", "data world process record loss"),
    ("learning_rate", "lr learning_rate", "record"),
    ("batch_size", "batch_size batch bs bsz", "process record"),
    ("clip_norm", "clip max_norm clip_value", "data model world process record loss"),
    ("weight_decay", "l2 wd", "loss data"),
    ("beta1", "beta1 beta_1", "process loss"),
    ("beta2", "beta2 beta_2", "process loss"),
    ("label_smoothing", "smoothing smoothing_factor ls", "data world process record schedule"),
    ("precision", "precision dtype", "data record"),
    ("context", "window", "model world process record loss schedule"),
    ("context", "max_length", "world record"),
    ("dropout", "dropout drop drop_rate drop_prob", "data world record schedule"),
    ("layers", "layers depth num_layers n_layers", "data world process record loss optimizer schedule"),
    ("width", "width dim", "data world process record loss optimizer schedule"),
    ("data_workers", "num_workers n_workers", "world record"),
)  # fmt: skip
_RULED_OUT: dict[tuple[str, str], frozenset[str]] = {
    (canonical, spelling): frozenset(subjects.split())
    for canonical, spellings, subjects in _OTHERWISE
    for spelling in spellings.split()
}
# Words so common that they count at the top level and below these subjects only.
_ONLY = {
    ("horizon_updates", "horizon"): frozenset(("schedule", "optimizer")),
    ("start", "start"): frozenset(("model", "training")),
}
# `optim_lr` for `optim.lr`: sections that are written into the name.
_WRITTEN_INTO = re.compile(
    r"(?P<way>optim|optimizer|opt|sched|scheduler|lr_scheduler|train|training|trainer|data|model)_(?P<last>\w+)"
)


@lru_cache(4096)  # ours: ways of one configuration, which come again for every name
def is_elsewhere(way: str) -> bool:
    """Whether a section of the way, lower case and dotted, is about another split, model or program: `val_loader`."""
    sections = way.split(".")
    return any(s in ELSEWHERE or s.partition("_")[0] in _OTHER_SPLIT for s in sections if s)


@lru_cache(4096)
def _subjects(way: str) -> tuple[str, ...]:
    """What the sections of a way are about, the outermost first; of a section of several words the last one."""
    sections = ([_SUBJECT_OF[word] for word in section.split("_") if word in _SUBJECT_OF] for section in way.split("."))
    return tuple(subject for section in sections for subject in section[-1:])


@lru_cache(4096)
def _is_process(way: str) -> bool:
    return any(_SUBJECT_OF.get(word) == "process" for word in re.split(r"[._]", way))


def is_ruled_out(canonical: str, spelling: str, way: str) -> bool:
    """Whether a key below these sections means something else than the canonical name that its last part spells.

    Args:
        way: lower case and dotted; the innermost section that is known decides.
    """
    if not way:
        return False
    if canonical == "schedule" and _is_process(way):  # `diffusion.scheduler.type`, `noise_scheduler.name`
        return True
    innermost = _subjects(way)[-1:]
    if (only := _ONLY.get((canonical, spelling))) is not None:
        return not innermost or innermost[0] not in only
    return not _RULED_OUT.get((canonical, spelling), frozenset()).isdisjoint(innermost)


# What programs put behind the name of a section: ESPnet `scheduler_conf`, mmcv `optimizer_config`, timm `sched_kwargs`.
_SECTION_ENDS = re.compile(r"_(?:conf|config|cfg|args|kwargs|params|opts|options|hparams)(?=\.|$)")


@lru_cache(4096)
def bare_sections(way: str) -> str:
    """A way without the words that only say that its sections are settings: `scheduler_conf` is `scheduler`."""
    return _SECTION_ENDS.sub("", way)


def divided(key: str, spelled: Iterable[str]) -> str:
    """`optim_lr` as `optim.lr`: a normalised key that is no spelling of its own but a section and one; else as it is.

    Args:
        key: without dots.
        spelled: every spelling that there is.
    """
    found = _WRITTEN_INTO.fullmatch(key)
    if found is None or key in spelled or found["last"] not in spelled:
        return key
    return f"{found['way']}.{found['last']}"
