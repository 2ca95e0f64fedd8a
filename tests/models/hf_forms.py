"""Small pretrained models in Hugging Face form, made on the spot: really trained, so that their first loss is low."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel

END = "<|endoftext|>"
VOCABULARY = 300
CONTEXT = 64


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences in which every word follows from the one before, but for one choice in five."""
    draw = random.Random(seed)
    words = ["the", "small", "model", "learns", "to", "read", "long", "texts", "and", "writes", "short", "answers"]
    made = []
    for _ in range(count):
        index = draw.randrange(len(words))
        chosen = [words[index]]
        for _ in range(7):
            index = draw.randrange(len(words)) if draw.random() < 0.2 else (index + 1) % len(words)
            chosen.append(words[index])
        made.append(" ".join(chosen) + ".")
    return made


def byte_level_tokenizer(texts: list[str]) -> Tokenizer:
    """Of GPT-2's kind."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def trained_gpt2(tokenizer: Tokenizer, texts: list[str], updates: int = 150) -> GPT2LMHeadModel:
    """A GPT-2 of two layers that has learned the texts, by transformers and torch alone."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
        attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    ids = torch.tensor([i for text in texts for i in [*tokenizer.encode(text).ids, 0]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(updates):
        starts = torch.randint(len(ids) - 32, (8,))
        batch = torch.stack([ids[s : s + 32] for s in starts])
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def save_as_on_the_hub(model: GPT2LMHeadModel, tokenizer: Tokenizer, folder: Path) -> None:
    """The files of the hub's `gpt2`: tensors without prefix, the masks among them, and both forms of the tokenizer."""
    model.save_pretrained(folder)
    stored = load_file(folder / "model.safetensors")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in stored.items()}
    for layer in range(model.config.n_layer):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(CONTEXT, CONTEXT).tril().view(1, 1, CONTEXT, CONTEXT)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config |= {"n_ctx": CONTEXT, "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}}
    for key in ("dtype", "transformers_version"):
        config.pop(key, None)
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.model.save(str(folder))  # vocab.json and merges.txt
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": CONTEXT, "eos_token": END}))


def write_questions(path: Path, count: int = 60) -> Path:
    """Questions whose answers follow from the texts."""
    with open(path, "w", encoding="utf-8") as file:
        for sentence in dict.fromkeys(sentences(count, seed=5)):
            words = sentence.split()
            file.write(json.dumps({"question": " ".join(words[:3]), "answer": " ".join(words[3:])}) + "\n")
    return path


def wordpiece_tokenizer(texts: list[str]) -> Tokenizer:
    """Of BERT's kind."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
