"""What logs call the canonical series: one ordered table, used by every reader that meets free key names.

A key is first normalised: camelCase is split, letters become lower case, every other character separates words
(`trainLoss`, `train/loss` and `Train Loss` are all `train_loss`). Then the table decides. Where a log holds several
spellings of one series, the one with the most points wins, and the earlier one in the table where they tie; the others
stay in the run under their own names.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from unstuck.errors import UserError
from unstuck.runs.run import Floats
from unstuck.runs.spelling import GRADIENT_NORM as GRADIENT_NORM
from unstuck.runs.spelling import normalise as normalise
from unstuck.runs.spelling import words as _words
from unstuck.runs.times import timed as timed
from unstuck.runs.times import told_time
from unstuck.runs.x_axis import BATCH_NAMES as BATCH_NAMES
from unstuck.runs.x_axis import EPOCH_NAMES as EPOCH_NAMES
from unstuck.runs.x_axis import MICRO_STEP_NAMES as MICRO_STEP_NAMES
from unstuck.runs.x_axis import STEP_NAMES as STEP_NAMES
from unstuck.runs.x_axis import is_worded_step as is_worded_step
from unstuck.runs.x_axis import x_axis as x_axis


@dataclass(frozen=True, slots=True)
class SeriesName:
    """A canonical series name with its spellings, best first.

    Attributes:
        spellings: normalised names.
        scale: what a logged value is multiplied by to reach `unit`.
        inverse: the logged value is a rate and the series a time, which is `scale` / value.
    """

    canonical: str
    spellings: tuple[str, ...]
    unit: str | None = None
    scale: float = 1.0
    inverse: bool = False

    def converted(self, logged: Floats) -> Floats:
        """Logged values in `unit`; a rate that is not positive gives no time (nan)."""
        if not self.inverse:
            converted = logged * self.scale
            # to the digits that a float64 holds: what was printed as 0.15, in 1e-4, is 1.5e-05 without a 2 far behind
            return np.array([float(f"{value:.15g}") for value in converted]) if self.scale < 1 else converted
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(logged > 0, self.scale / logged, np.nan)


_VAL = ("val", "valid", "validation", "eval", "evaluation", "dev", "heldout", "holdout")
_TRAIN = ("train", "training", "tr")


def _loss(prefixes: Iterable[str], stems: Iterable[str]) -> tuple[str, ...]:
    """Every order of prefix and stem: `val_loss`, `loss_val`, `val_ce` ..."""
    stems = tuple(stems)
    forward = [f"{p}_{s}" for s in stems for p in prefixes]
    return tuple(forward + [f"{s}_{p}" for s in stems for p in prefixes])


_MEANS = ("mean_loss", "avg_loss", "average_loss", "ave_loss")


def _mean_of(prefixes: Iterable[str]) -> tuple[str, ...]:
    """`mean_val_loss`, `avg_val_loss` ..."""
    return tuple(f"{mean.removesuffix('loss')}{p}_loss" for mean in _MEANS for p in prefixes)


_STEMS = ("loss", "ce_loss", "lm_loss", "cross_entropy", "cross_entropy_loss", "nll", "nll_loss", "ce", "xent")
_ERRORS = ("mse", "mse_loss", "rmse", "mae", "l1_loss", "l2_loss", "rel_l2", "relative_l2", "rel_l2_error", "rel_error",
           "relative_error", "l2_error", "nmse", "huber_loss", "smooth_l1_loss", "bce", "bce_loss", "dice_loss", "elbo",
           "logloss", "mlogloss", "binary_logloss", "multi_logloss", "error", "err")  # fmt: skip

# Tags of TensorBoard of icefall (train.py: the loss of a batch, its decayed mean, and validation below `train/`), of
# WeNet (utils/executor.py: `cv` is cross-validation) and of Coqui's trainer (`TrainIterStats/loss`).
_SPEECH = {
    "train/loss": _words("current_loss train_current_loss tot_loss train_tot_loss train_train_loss "
                         "train_iter_stats_loss train_epoch_stats_avg_loss"),
    "val/loss": _words("train_valid_loss train_val_loss train_dev_loss cv_loss cv_cv_loss epoch_cv_loss "
                       "eval_stats_avg_loss"),
    "lr/all": _words("train_iter_stats_current_lr"),
    "grad_norm/preclip": _words("train_iter_stats_grad_norm"),
    "step seconds": _words("train_iter_stats_step_time train_step_timing step_timing"),  # NeMo: train_step_timing
    "data seconds": _words("train_iter_stats_loader_time"),
}  # fmt: skip

TABLE: tuple[SeriesName, ...] = (
    SeriesName("train/loss", ("loss", *_loss(_TRAIN, _STEMS), *_STEMS[1:], "train_loss_step", "loss_step",
                              "train_loss_batch", "batch_loss", "train_batch_loss", "step_loss", "mean_loss",
                              "avg_loss", "average_loss", "total_loss", "train_total_loss", "train_loss_epoch",
                              "loss_epoch", "lossf", "tloss", "t_loss", "trloss", "trn_loss", "loss_trn",
                              "minibatch_loss", "mini_batch_loss", "avr_loss", "ave_loss", "running_loss",
                              "learning_loss",
                              *_loss(_TRAIN, ("l", *_MEANS)), *_mean_of(_TRAIN), *_SPEECH["train/loss"])),
    SeriesName("val/loss", (*_loss(_VAL, _STEMS), *(f"{p}_loss_epoch" for p in _VAL),
                            *(f"{p}_total_loss" for p in _VAL), *_loss(_VAL, _MEANS), *_mean_of(_VAL),
                            *_loss(("va",), ("loss",)), "vloss", "v_loss",
                            "devloss", *_loss((*_VAL, "va", "vl"), ("l",)), *_loss(("test",), ("loss", "l")),
                            *_SPEECH["val/loss"])),
    # what is minimised where no key says "loss"
    SeriesName("train/loss", (*_loss(_TRAIN, _ERRORS), *_ERRORS)),
    SeriesName("val/loss", (*_loss(_VAL, _ERRORS), *_loss(("test",), _STEMS[1:] + _ERRORS))),
    SeriesName("train/objective", _words("objective train_objective training_objective")),
    SeriesName("lr/all", _words("lr learning_rate train_lr train_learning_rate learningrate "
                                "current_lr cur_lr last_lr lr_current optimizer_lr lrs "
                                "current_learning_rate learning_current_learning_rate") + _SPEECH["lr/all"]),
    SeriesName("grad_norm/preclip", _words(
        "grad_norm_preclip grad_norm_pre_clip preclip_grad_norm grad_norm_before_clip grad_norm_before_clipping "
        "grad_norm_unclipped unclipped_grad_norm raw_grad_norm learning_raw_grad_norm grad_norm gnorm gradient_norm "
        "gradnorm total_grad_norm "
        "grad_norm_total global_grad_norm grad_norm_global train_grad_norm train_gradient_norm total_norm grad_l2_norm "
        "l2_norm_grad_global grad_norm_l2 train_gnorm gradients_norm optim_grad_norm optimizer_grad_norm "
        "gradients_global_norm gradient_global_norm grads_global_norm grad_global_norm global_gradient_norm "
        "global_norm_gradient_norm grads_norm gradients_l2_norm gradient_l2_norm l2_grads learning_grad_norm "
        "global_norm norm") + _SPEECH["grad_norm/preclip"]),
    SeriesName("grad_norm/postclip", _words(
        "grad_norm_postclip grad_norm_post_clip postclip_grad_norm grad_norm_after_clip grad_norm_after_clipping "
        "grad_norm_clipped clipped_grad_norm gnorm_clipped")),
    SeriesName("grad_norm/clipped_share", _words(
        "grad_norm_clipped_share clipped_share clip_share clip_fraction clip_frac clip_rate clipped_fraction")),
    SeriesName("tokens", _words(
        "tokens tokens_seen total_tokens num_tokens n_tokens tokens_processed num_input_tokens_seen consumed_tokens "
        "train_tokens trained_tokens tokens_total"), "tokens"),
    SeriesName("throughput/tokens_per_second", _words(
        "tokens_per_second tokens_per_sec tokens_s tok_s tok_per_s tok_sec tokens_sec toks_per_sec tps "
        "tokens_per_s train_tokens_per_second throughput_tokens_per_second throughput_tokens_per_sec "
        "tok_per_sec"), "tokens/s"),
    SeriesName("throughput/samples_per_second", _words(
        "samples_per_second samples_per_sec samples_s train_samples_per_second examples_per_second it_samples_per_sec"),
        "samples/s"),
    SeriesName("time/step_ms", _words(
        "time_step_ms step_ms step_time_ms time_ms iter_ms iter_time_ms ms_per_step ms_per_iter ms_per_iteration "
        "dt_ms time_per_step_ms batch_cost_ms"), "ms"),
    SeriesName("time/step_ms", _words(
        "step_time step_time_s step_seconds seconds_per_step sec_per_step s_per_step time_per_step iter_time "
        "time_per_iter time_per_iteration sec_per_iter batch_time batch_cost avg_batch_cost") + _SPEECH["step seconds"],
        "ms", 1000.0),
    SeriesName("time/data_ms", _words("data_ms data_time_ms dataloader_ms data_loading_ms"), "ms"),
    SeriesName("time/data_ms", _words(
        "data_time data_time_s data_seconds dataloader_time data_loading_time data_wait data_wait_time load_time "
        "reader_cost avg_reader_cost data_cost avg_data_cost") + _SPEECH["data seconds"],
        "ms", 1000.0),
    SeriesName("time/data_share", _words("time_data_share data_share data_time_share data_wait_share")),
    SeriesName("epoch", EPOCH_NAMES, "epochs"),
    SeriesName("train/accuracy", _words("acc accuracy train_acc train_accuracy training_accuracy")),
    SeriesName("val/accuracy", (*_loss(_VAL, ("accuracy", "acc", "acc1", "top1")),
                                *_loss(("test",), ("accuracy", "acc", "acc1", "top1")))),
    SeriesName("val/bits_per_byte", (*(f"{p}_bpb" for p in _VAL), *(f"{p}_bits_per_byte" for p in _VAL)), "bits/byte"),
    SeriesName("val/perplexity", tuple(f"{p}_{a}" for a in ("perplexity", "ppl", "pplx") for p in _VAL)),
    SeriesName("train/perplexity", (*(f"{p}_{a}" for a in ("perplexity", "ppl") for p in _TRAIN), "perplexity", "ppl")),
)  # fmt: skip


def _time_entry(key: str) -> SeriesName | None:
    """The series of a key that names a time of the step with its unit, or a rate: `step_s`, `sec/it`, `it/s`."""
    told = told_time(key, normalise(key).split("_"))
    return None if told is None else SeriesName(told.series, (), told.unit, told.scale, told.inverse)


# Keys about the clock of an evaluation or of the whole run (transformers writes them), not about learning.
RUNTIME = re.compile(r"^(?:eval|train|test)_.*(?:runtime|samples_per_second|steps_per_second|model_preparation_time)$")

# Sections that hold the rates and the norms of training: `optim/lr`, `sched/lr_0`, `opt/grad_norm`, `train/lr/body`.
_OPTIMIZING = frozenset(_words("optim optimizer optimizers opt sched scheduler schedule train training trainer"))


def _without_section(name: str) -> str:
    """A normalised name without the sections of the optimizer before it: `optim_lr_body` -> `lr_body`."""
    words = name.removeprefix("lr_scheduler_").split("_")
    first = next((at for at, word in enumerate(words) if word.rstrip("0123456789") not in _OPTIMIZING), 0)
    return "_".join(words[first:])


# Words beside "lr" that make the value a setting or a ratio instead of a group's learning rate.
_NO_GROUP = frozenset(
    _words("min max base peak init initial target mult multiplier factor scale scaling ratio decay schedule "
           "scheduler step steps warmup range find finder coef power")
)  # fmt: skip
# A rate in units of a power of ten: `lr(1e-4)`, `lr [1e-4]`, `lr x 1e4` (multiplied by it, which is the same unit).
_IN_POWERS = re.compile(
    r"^(?:train[/_ ])?(?:lr|learning[ _]?rate) ?(?:[(\[] ?[x×*]? ?|[x×*] ?)(?:1e|10\^)(-?\d{1,2}) ?[)\]]?$", re.I
)
_LR_BEFORE = re.compile(r"^(?:lr|learning_rate)_(.+)$")
_LR_NUMBERED = re.compile(r"^(?:lr|learning_rate)_?(\d{1,2})$")  # ESPnet's `optim0_lr0`, and the like
_OTHER_OPTIMIZER = re.compile(r"(?:^|_)optim([1-9])_lr")  # of the discriminator
_LR_AFTER = re.compile(r"^(.+?)_(?:lr|learning_rate)$")
_NORM_BEFORE = re.compile(r"^(?:grad_norm|gnorm|gradient_norm|gradnorm)_(.+)$")
_NORM_AFTER = re.compile(r"^(.+?)_(?:grad_norm|gnorm|gradient_norm)$")
_SOURCE_LOSS = re.compile(rf"^(?:{'|'.join(_VAL)})_(?:loss_(.+)|(.+)_loss)$")
_NO_SOURCE = frozenset(_VAL) | frozenset(_words("cross entropy ce nll lm"))  # "eval/validation/CrossEntropyLoss"
_UPDATE_RATIO = re.compile(r"^(?:update_ratio|update_to_weight|update_weight_ratio|ud_ratio)_(.+)$")


def group_of(key: str) -> SeriesName | None:
    """The series of a key that names a parameter group, a validation source or a time; None where it names none.

    `lr_body`, `lr/body`, `body_lr` and `optim/lr_body` are `lr/body`; `gnorm_head` is `grad_norm/preclip/head`;
    `eval_books_loss` is `val/loss/books`.
    """
    if match := _IN_POWERS.match(key):
        return SeriesName("lr/all", (), None, 10.0 ** -abs(int(match[1])))
    name = normalise(key)
    inner = _without_section(name)
    if match := _LR_NUMBERED.match(inner):
        other = _OTHER_OPTIMIZER.search(name)
        return SeriesName(f"lr/optim{other[1]}_{match[1]}" if other else f"lr/{match[1]}", ())
    for pattern in (_LR_BEFORE, _LR_AFTER):
        if (match := pattern.match(inner)) and not _NO_GROUP & set(match[1].split("_")):
            return SeriesName(f"lr/{match[1]}", ())
    if match := (_NORM_BEFORE.match(inner) or _NORM_AFTER.match(inner)):
        group = match[1].removeprefix("preclip_")
        if not {"clip", "clipped", "postclip", "max", "ratio", "clipping", "mean"} & set(group.split("_")):
            return SeriesName(f"grad_norm/preclip/{group}", ())
    if match := _UPDATE_RATIO.match(name):
        return SeriesName(f"update_ratio/{match[1]}", ())
    if match := _SOURCE_LOSS.match(name):
        source = match[1] or match[2]
        if set(source.split("_")) <= _NO_SOURCE:
            return SeriesName("val/loss", ())
        if source not in ("ema", "smooth", "smoothed", "std", "min", "max", "best", "delta", "avg", "mean", "running"):
            return SeriesName(f"val/loss/{source}", ())
    return _time_entry(key)


# Spelling -> its places in TABLE, and its rank among the spellings of each.
_PLACES: dict[str, dict[int, int]] = {}
for _place, _entry in enumerate(TABLE):
    for _rank, _spelling in enumerate(_entry.spellings):
        _PLACES.setdefault(_spelling, {}).setdefault(_place, _rank)


def assign(points: Mapping[str, int], columns: Mapping[str, str] | None = None) -> dict[str, SeriesName]:
    """Which key of a log becomes which canonical series.

    Args:
        points: key as logged -> how many values it has.
        columns: what the user said: key as logged -> canonical series (`Beside.columns`).

    Returns:
        Key as logged -> its series, for keys that have a canonical one. Each canonical series is given once.
    """
    said = {key: name for key, name in (columns or {}).items() if key in points}
    given = {key: by_canonical(name) for key, name in said.items() if name not in ("", *AXES)}
    taken = {entry.canonical for entry in given.values()}
    by_name: dict[str, list[str]] = {}
    for key in points:
        if key not in said:
            by_name.setdefault(normalise(key), []).append(key)
    by_place: dict[int, list[tuple[int, str]]] = {}
    for name in by_name:
        for place, rank in _PLACES.get(name, {}).items():
            by_place.setdefault(place, []).append((rank, name))
    for place, ranked in sorted(by_place.items()):
        entry = TABLE[place]
        if entry.canonical in taken:
            continue
        candidates = [key for _, name in sorted(ranked) for key in by_name[name] if key not in given]
        if candidates:
            given[max(candidates, key=lambda key: points[key])] = entry
            taken.add(entry.canonical)
    _validated(given, points, taken)
    _measured(given, points, taken)
    _waited(given, points, said)
    for key in points:
        if key in given or key in said:
            continue
        entry_of_key = _of_optimizer(key) or group_of(key)
        if entry_of_key is not None and entry_of_key.canonical not in taken:
            given[key] = entry_of_key
            taken.add(entry_of_key.canonical)
    rates = [key for key, entry in given.items() if entry.canonical.startswith("lr/")]
    if len(rates) == 1 and given[rates[0]].canonical == "lr/0" and normalise(rates[0]).endswith("lr0"):
        given[rates[0]] = by_canonical("lr/all")  # the first group is the only one
    return given


def _validated(given: dict[str, SeriesName], points: Mapping[str, int], taken: set[str]) -> None:
    """An accuracy without a phase beside losses that have one, printed as often as validation's, is validation's:
    fastai's `train_loss valid_loss accuracy`."""
    keys = {entry.canonical: key for key, entry in given.items()}
    accuracy, train, val = (keys.get(name, "") for name in ("train/accuracy", "train/loss", "val/loss"))
    if not (accuracy and train and val) or "val/accuracy" in taken or points[accuracy] != points[val]:
        return
    words = [set(normalise(key).split("_")) for key in (accuracy, train, val)]
    phases = {*_TRAIN, *_VAL, "test"}
    if not words[0] & phases and words[1] & set(_TRAIN) and words[2] & phases:
        given[accuracy] = by_canonical("val/accuracy")
        taken.add("val/accuracy")


def _measured(given: dict[str, SeriesName], points: Mapping[str, int], taken: set[str]) -> None:
    """`metrics/loss` beside a more frequent `loss` is validation's: the tag of OpenNMT-tf's evaluations
    (opennmt/evaluation.py); no other loss of validation is there."""
    train = next((key for key, entry in given.items() if entry.canonical == "train/loss"), None)
    if train is None or "val/loss" in taken or normalise(train) in _MEASURED:
        return
    for key in points:
        if key not in given and normalise(key) in _MEASURED and points[key] < points[train]:
            given[key] = by_canonical("val/loss")
            taken.add("val/loss")
            return


# Parts of an update that ESPnet times beside the wait for a batch (espnet2/train/trainer.py).
_BESIDE_WAIT = re.compile(r"(?:^|_)(?:optim\d+_lr\d+|backward_time|optim_step_time)$")
WAITED_BATCHES = frozenset(_words("iter_time train_iter_time"))


def _waited(given: dict[str, SeriesName], points: Mapping[str, int], said: Mapping[str, str]) -> None:
    """`iter_time` beside `train_time` is the wait of a batch for its data, and `train_time` the time of an update:
    ESPnet's trainer times the iterator by that name. Elsewhere `iter_time` is the time of a step."""
    by_name = {normalise(key): key for key in points if key not in said}
    wait = next((by_name[name] for name in WAITED_BATCHES if name in by_name), None)
    whole = next((by_name[name] for name in ("train_time", "train_train_time") if name in by_name), None)
    if wait is None or whole is None or not any(_BESIDE_WAIT.search(name) for name in by_name):
        return
    for key, canonical in ((wait, "time/data_ms"), (whole, "time/step_ms")):
        for other in [other for other, entry in given.items() if entry.canonical == canonical]:
            del given[other]
        given[key] = SeriesName(canonical, (), "ms", 1000.0)


_MEASURED = frozenset(_words("metrics_loss metric_loss"))

# What may be called a rate of learning, and the largest value that is taken for one: ours; a share, an error or a time
# left goes beyond it or ends at 0.
_MAYBE_RATES = frozenset(_words("rate eta step_size stepsize"))
MAYBE_BELOW = 0.1


def may_be_rate(key: str) -> bool:
    """Whether a key may name the learning rate, which its values must confirm (`is_small_rate`)."""
    return _without_section(normalise(key)) in _MAYBE_RATES


def is_small_rate(values: Floats) -> bool:
    """Whether all values are such as a learning rate has: above 0 and small."""
    return bool(len(values) and np.all((values > 0) & (values < MAYBE_BELOW)))


def _of_optimizer(key: str) -> SeriesName | None:
    """The rate or the norm that a key names below a section of the optimizer: `optim/lr` is `lr/all`."""
    places = _PLACES.get(_without_section(normalise(key)), ())
    entries = (TABLE[place] for place in places)
    return next((entry for entry in entries if entry.canonical.startswith(("lr/", "grad_norm/"))), None)


AXES = ("step", "micro_step", "epoch")


def is_canonical(name: str) -> bool:
    """Whether a name is that of a series, of one of its groups (`lr/body`, `val/loss/books`) or of an x-axis."""
    canonical = {entry.canonical for entry in TABLE}
    group = re.match(r"(lr|val/loss|grad_norm/preclip|update_ratio)/\S+$", name)
    return name in AXES or name in canonical or group is not None


def said_columns(words: Iterable[str]) -> dict[str, str]:
    """What a user wrote as `KEY=NAME,KEY=NAME`: key as logged -> canonical series, an x-axis, or "" to leave it out.

    Raises:
        UserError: no equals sign, or no name that there is.
    """
    said: dict[str, str] = {}
    for pair in (part.strip() for word in words for part in word.split(",")):
        key, sign, name = (part.strip() for part in pair.rpartition("="))
        if not sign or not key:
            raise UserError(f"--columns {pair} says no name; write KEY=NAME, for example --columns loss=val/loss.")
        if name and not is_canonical(name) and (places := _PLACES.get(normalise(name))):
            name = TABLE[min(places)].canonical  # as a log would call it: lr, val_loss
        if name and not is_canonical(name):
            known = sorted({*AXES, *(entry.canonical for entry in TABLE)})
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or ["train/loss", "val/loss", "step"]
            raise UserError(f"--columns {key}={name}: there is no {name}; the nearest names are {', '.join(near)}.")
        said[key] = name
    return said


def by_canonical(name: str) -> SeriesName:
    """The entry of a canonical series; one without a unit where the table has none of that name."""
    return next((entry for entry in TABLE if entry.canonical == name), SeriesName(name, ()))


def left_out(key: str, columns: Mapping[str, str]) -> bool:
    """Whether the user said that a column is to be ignored."""
    return columns.get(key) == ""
