"""The words of training logs: which name a count, a phase, a unit, an outcome, and which are no names at all.

The words were gathered from what trainers print (PyTorch's examples, timm, detectron2, OpenNMT, Flair, DeepSpeed,
Keras, fastai, spaCy, LightGBM ...); `unstuck.runs.names` has the canonical names of series.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

from unstuck.runs import names

REMEMBERED = 1 << 14  # ours: words and keys of one log whose meaning is kept, a few MB; a log of programs has hundreds


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PHASES: dict[str, str] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validating", "validate", "eval", "evaluation", "evaluating",
                     "evaluate", "evaluated", "dev", "heldout", "holdout", "valset", "devset", "cv"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "testset", "unseen"), "test"),
}  # fmt: skip
# Words that say that a line sums up or looks back: its numbers are no points of a curve.
SUMMARY = _words("best final finished finally summary averaged overall lowest highest minimum maximum min max last "
                 "previous initial starting improved early peak target planned expected old new")  # fmt: skip

PLANNED = _words("min max minimum maximum target planned")  # behind the numbers of a row: "loss: 2.3, max_updates: 9"

ENDED = _words(
    "complete completed"
)  # "Training complete - Train F1: 0.9": the same, but "Epoch 3 completed" is a point

EPOCHS = frozenset(names.EPOCH_NAMES) | _words("ep e epoch_no epoch_number epochs_done ep_num")
STEPS = frozenset(names.STEP_NAMES) | _words(
    "upd ups_done n_iter num_iter num_iters niter nb_iter iter_no gs gstep global_iter global_iteration n_updates "
    "up step_num step_idx step_count train_steps training_iteration total_steps round rounds tree trees"
)
MICRO_STEPS = frozenset(names.MICRO_STEP_NAMES)
BATCHES = _words("batch batches minibatch mini_batch mini_batches batch_idx batch_id batch_num mb iters_in_epoch "
                 "batch_no batch_number epoch_step")  # fmt: skip
# Letters that stand for a step where the values rise as one does.
INITIALS = _words("s i t n k it ep u")

# Families of quantities by a word of their name.
LOSSES = _words("loss losses nll xent ce crossentropy cross_entropy logloss binary_logloss multi_logloss "
                "bce cost objective elbo neg_log_likelihood nats celoss trl tel mlm ntp loglikelihood")  # fmt: skip
ERRORS = _words("mse rmse mae mape error err l1 l2 rel_l2 relative_l2 h1 rel_err relative_error wer cer "
                "mpjpe nrmse smape msle rel_l2_error l2_error l2re residual")  # fmt: skip
PERPLEXITIES = _words("ppl perplexity pplx perp")
BITS = _words("bpb bpc bpd bits_per_byte bits_per_char bits_per_dim")
ACCURACIES = _words("acc accuracy top1 top5 acc1 acc5 acc@1 acc@5 prec@1 prec@5 top-1 top-5 acc@top1 acc@top5 "
                    "correct categorical_accuracy sparse_categorical_accuracy binary_accuracy")  # fmt: skip
SCORES = _words("f1 auc auroc auprc map mar ap ap50 map50 map50-95 bleu rouge score iou miou dice psnr ssim fid "
                "precision recall r2 mcc em exact_match kappa sensitivity specificity reward return ndcg mrr hit hits "
                "recall@1 spearman pearson meteor chrf cider pck hellaswag box obj cls dfl rec recon "
                "reconstruction")  # fmt: skip
OUTCOMES = LOSSES | ERRORS | PERPLEXITIES | BITS | ACCURACIES | SCORES
RATES = _words("lr lrs learning_rate learningrate lrm")
NORMS = _words("norm gnorm gradnorm grad_norm gradient grad grads")
OTHERS = _words("time dt mfu hfu tflops tflop flops tps throughput wps ups eta elapsed speed mem memory tokens samples "
                "beta momentum wd temperature temp scale kl entropy tok/s tok/sec tokens/s tokens/sec it/s its "
                "samples/s samples/sec sec s ms examples")  # fmt: skip

UNITS = _words("ms s sec secs second seconds min mins minutes m h hr hrs hours us µs ns k K M B G T % x z it its mb "
               "gb MB GB GiB MiB kB KB TB tokens tok toks samples steps batches images imgs examples sents words MFU "
               "TFLOPs TFLOPS tflops GFLOPS GFLOPs mi Mi Gi")  # fmt: skip
_PER = re.compile(
    r"[A-Za-z]{1,12}/(?:s|sec|second|step|steps|batch|it|iter|iteration|epoch|sample|example|token|GPU|gpu)\Z"
)
SCALES = {"k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
MILLISECONDS = {"ms": 1.0, "s": 1e3, "sec": 1e3, "secs": 1e3, "second": 1e3, "seconds": 1e3, "us": 1e-3, "µs": 1e-3,
                "ns": 1e-6, "m": 6e4, "min": 6e4, "mins": 6e4, "minutes": 6e4, "h": 3.6e6, "hr": 3.6e6,
                "hrs": 3.6e6, "hours": 3.6e6}  # fmt: skip
# Names of the time of one step; with a unit they are converted to ms.
STEP_TIMES = _words("dt step_time time_per_step iter_time batch_time time_per_iteration elapsed_time_per_iteration "
                    "step_duration time_step elapsed_time_per_iteration_ms ms step_dt iteration_time time_per_iter "
                    "time_iter sec_per_step train_step_time ms_step ms_batch ms_iter ms_it s_step s_it s_batch s_iter "
                    "sec_step sec_batch sec_iter sec_it per_step batch_cost avg_batch_cost")  # fmt: skip
# Names of the time that a step waits for its data; with a unit they are converted to ms.
DATA_TIMES = _words("data data_time data_wait data_wait_time wait_data data_load data_loading data_load_time "
                    "data_loading_time dataload dataloader dataloader_time data_fetch data_fetch_time fetch_data "
                    "load_time loading_time batch_load_time load_data time_data reader_cost "
                    "avg_reader_cost")  # fmt: skip

# Keys whose numbers say nothing about training.
NOTHING = _words("eta remaining left v_num version device cuda gpu gpus rank local_rank pid port host node worker day "
                 "days hours tp pp dp betas mom seed lineno line id job jobid world_size ip total_time_left "
                 "time_left fold_seed expected_completion done progress complete completed")  # fmt: skip

PLACES = _words("device gpu gpus host node worker")  # but "tokens/s/device" says something

# Words of prose: a key never holds one, unless a colon or an equals sign ends it.
STOP = _words("a an the is was were are be been to from and or but we i you he she they it's its this that these those "
              "my our your their for with without by as if so no not has have had do does did can could will would "
              "should may might must there here when where which who what how all any some more most other into over "
              "under than then only just also very about up out off using used use get got")  # fmt: skip
# What may stand between a phase and a count: "validation loss at iteration 1000", "end of epoch 3", "Starting epoch 1".
AROUND_COUNTS = _words("at after for of end start starting begin beginning done finished in on during run running "
                       "current global results result summary loss log stats metrics set info now completed "
                       "complete ended started the report phase step steps time per-step")  # fmt: skip
NUMBERED = _words("i idx index no num number nr id")  # behind the word of a count: "batch i", "step no"
FILLERS = _words("value values current curr cur mean avg average averaged ave running batch step iter epoch the set "
                 "total this over on per reduced all smoothed raw lm dataset split metrics metric data "
                 "phase language minibatch mini-batch masked token tok per_token")  # fmt: skip


_PHASED = re.compile(rf"(?:{'|'.join(PHASES)})-[a-z]{{2}}")  # MXNet and Sockeye: "Validation-perplexity"


@lru_cache(REMEMBERED)
def words_of(key: str) -> tuple[str, ...]:
    """The words of a key, lower case: camelCase, underscores, slashes and dots divide, "acc@1" and "top-1" stay."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", " ", key).lower()
    if "out" in apart:
        apart = re.sub(r"\b(held|hold)[-_ ]out(?![a-z])", "heldout", apart)
    if "per-" in apart:
        apart = re.sub(r"\bper-", "per ", apart)  # "per-step time" (TensorFlow's object detection)
    words = (word for word in re.split(r"[\s_/.:,()\[\]'\"]+", apart) if re.search(r"[a-z0-9#%]", word))
    return tuple(part for word in words for part in (word.split("-", 1) if _PHASED.match(word) else (word,)))


@lru_cache(REMEMBERED)
def phase_of(word: str) -> str:
    """`train`, `val` or `test` where a word names a phase, else nothing; "[Valid]" and "val:" are words too."""
    return PHASES.get(word.lower().strip("*#-=:.,()[]<>'\"|!_ "), "")


@lru_cache(REMEMBERED)
def split_phase(key: str) -> tuple[str, tuple[str, ...]]:
    """The phase that a key names ("" for none), and its other words."""
    phase = ""
    rest: list[str] = []
    for word in words_of(key):
        named = PHASES.get(word) or PHASES.get(word.rstrip("0123456789-"), "")
        if named and phase in ("", named):
            phase = named
        else:
            rest.append(word)
    return phase, tuple(rest)


def is_phase(key: str) -> bool:
    """Whether a key is the name of a phase and nothing else."""
    phase, rest = split_phase(key)
    return bool(phase) and not rest


def joined(words: tuple[str, ...]) -> str:
    """Words as one normalised name."""
    return "_".join(words).replace("-", "_")


def in_family(words: tuple[str, ...], family: frozenset[str]) -> bool:
    """Whether one word, two neighbours or all of a key are in a family; "mlm_loss" and "CELoss" hold "loss"."""
    if any(word in family for word in words) or joined(words) in family:
        return True
    if any(f"{a}_{b}" in family for a, b in pairwise(words)):
        return True
    if family is LOSSES and len(words) > 1 and words[0] == "l":  # BasicSR and its relatives: l_pix, l_g_total
        return True
    return family is LOSSES and any(word.endswith(("loss", "losses", "logloss")) for word in words)


@lru_cache(REMEMBERED)
def is_outcome(key: str) -> bool:
    """Whether the key names what training improves: a loss, an error, a perplexity, an accuracy, a score."""
    phase, words = split_phase(key)
    if phase and words == ("l",):  # L_train, L_val
        return True
    return any(in_family(words, family) for family in (LOSSES, ERRORS, PERPLEXITIES, BITS, ACCURACIES, SCORES))


@lru_cache(REMEMBERED)
def is_known(key: str) -> bool:
    """Whether the key names a quantity that logs of training hold."""
    words = split_phase(key)[1]
    return is_outcome(key) or any(in_family(words, family) for family in (RATES, NORMS, OTHERS))


@lru_cache(REMEMBERED)
def is_unit(word: str) -> bool:
    """`ms`, `tok/s`, `sec/batch` ..."""
    return word in UNITS or _PER.match(word) is not None


@lru_cache(REMEMBERED)
def count_of(key: str) -> str:
    """`epoch`, `step`, `micro_step` or `batch` where the words of a key are the name of a count, else nothing."""
    name = names.normalise(key)
    for role, family in (("epoch", EPOCHS), ("step", STEPS), ("micro_step", MICRO_STEPS), ("batch", BATCHES)):
        if name in family:
            return role
    return "step" if names.is_worded_step(name) else ""
