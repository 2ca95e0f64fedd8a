"""A network of `transformers` from a folder or from one of our runs: whole, in float32, nothing of it executed."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from unstuck.errors import UserError
from unstuck.models.hf_folder import Objective, is_run, objective_of, read_config

# Dropout goes by these names in the configurations of transformers.
DROPOUTS = (
    "attn_pdrop", "embd_pdrop", "resid_pdrop", "dropout", "attention_dropout", "activation_dropout", "hidden_dropout",
    "hidden_dropout_prob", "attention_probs_dropout_prob", "embedding_dropout", "attention_dropout_prob",
)  # fmt: skip


def load_network(folder: Path, *, dropout: float | None = None) -> nn.Module:
    """The pretrained network of a folder, every one of its weights read from the file.

    Args:
        folder: with config.json and model.safetensors (or pytorch_model.bin, read without unpickling code), or a run
            of ours whose model has a Hugging Face form.
        dropout: replaces every dropout probability of its configuration.

    Raises:
        UserError: weights are missing, damaged, of another size, or pickled with code in them; or the model is of a
            type that this version of transformers does not know.
    """
    if is_run(folder):
        return _from_run(folder, dropout)
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

    objective: Objective = objective_of(folder)
    loader: Any = AutoModelForMaskedLM if objective == "masked" else AutoModelForCausalLM
    content = read_config(folder)
    if content["model_type"] == "unstuck-ltg-bert":
        import unstuck.integrations.transformers  # noqa: F401 - makes the type known
    if "auto_map" in content and content["model_type"] not in _known_types():
        raise UserError(
            f"{folder} needs Python code of its own ({content['auto_map']}), and code from a model's folder is never "
            "run here; name a model that transformers knows."
        )
    pickled = not any(folder.glob("*.safetensors"))
    with _errors_as_sentences(folder), quiet():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        _set_dropout(config, dropout)
        network, found = loader.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=not pickled,
            weights_only=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    missing = sorted(found["missing_keys"])
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing)} of the model's tensors ({missing[0]} for one), which would start from "
            f"random numbers; name the folder of the whole {objective} language model, its head included."
        )
    module: nn.Module = network
    return module


@contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars and advice on standard error: what matters of it is raised."""
    import logging as levels

    from transformers.utils import logging as their_logging

    logging: Any = their_logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(levels.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _from_run(folder: Path, dropout: float | None) -> nn.Module:
    from unstuck.models.hf_export import network_of
    from unstuck.train.load import load_checkpoint

    loaded = load_checkpoint(folder)
    return network_of(loaded.model, end_of_text=getattr(loaded.tokenizer, "end_of_text", None), dropout=dropout)


def _set_dropout(config: Any, dropout: float | None) -> None:
    for name in DROPOUTS:
        if dropout is not None and hasattr(config, name):
            setattr(config, name, dropout)


def _known_types() -> set[str]:
    from transformers.models.auto import configuration_auto

    return set(configuration_auto.CONFIG_MAPPING_NAMES)  # type: ignore[attr-defined]


@contextmanager
def _errors_as_sentences(folder: Path) -> Iterator[None]:
    try:
        yield
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{folder}/pytorch_model.bin holds more than tensors, and code from a pickle is never run here; have the "
            "model's author save it as model.safetensors (save_pretrained does)."
        ) from error
    except SafetensorError as error:
        raise UserError(f"The weights in {folder} are damaged ({error}); copy the model again.") from error
    except (OSError, ValueError, RuntimeError, KeyError, EOFError) as error:
        if isinstance(error, RuntimeError) and "alloc" in str(error):
            raise
        first = str(error).strip().partition("\n")[0].rstrip(".")
        raise UserError(
            f"transformers cannot load the model in {folder} ({first or type(error).__name__}); check that config.json "
            "and the weights belong together."
        ) from error
