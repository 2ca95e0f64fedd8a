"""GPT2LMHeadModel of the same size in the transformers Trainer, with nanoGPT's hyperparameters.

python -m benchmarks.peers.transformers_trainer TRAIN_TOKENS.npy --updates 120
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

CONTEXT, BATCH = 64, 12


class Windows(Dataset[dict[str, torch.Tensor]]):
    """Every window of the text; the Trainer shuffles them."""

    def __init__(self, path: Path) -> None:
        self.tokens = torch.from_numpy(np.load(path).astype(np.int64))

    def __len__(self) -> int:
        return len(self.tokens) // CONTEXT

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        window = self.tokens[index * CONTEXT : (index + 1) * CONTEXT]
        return {"input_ids": window, "labels": window}


class Clock(TrainerCallback):
    """When each update ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train_tokens", type=Path)
    parser.add_argument("--updates", type=int, default=120)
    parser.add_argument("--vocabulary", type=int, default=65)
    asked = parser.parse_args()
    config = GPT2Config(
        vocab_size=asked.vocabulary, n_positions=CONTEXT, n_embd=128, n_layer=4, n_head=4, bos_token_id=0,
        eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=BATCH, max_steps=asked.updates, learning_rate=1e-3,
            adam_beta2=0.99, weight_decay=0.1, max_grad_norm=1.0, lr_scheduler_type="cosine", warmup_steps=100,
            logging_steps=10, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(GPT2LMHeadModel(config), arguments, train_dataset=Windows(asked.train_tokens))
        trainer.add_callback(clock)
        trainer.train()
    print(json.dumps({"tokens_per_second": BATCH * CONTEXT / float(np.median(np.diff(clock.ends)))}))


if __name__ == "__main__":
    main()
