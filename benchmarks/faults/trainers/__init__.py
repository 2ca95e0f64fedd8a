"""The trainers of the benchmark: a plain PyTorch loop, transformers' Trainer, and ours."""
