"""The one training loop and its parts. Importing this package imports no torch; `unstuck.train.run` does."""

import os

# PyTorch's OpenMP threads spin for milliseconds at the end of every operation. Where other processes want the core that
# stalls the update: with two of them on two cores 4,100 tokens/s, with a short spin 8,700; idle, the same (38,500 of
# 39,000). No spin at all is 2.7 times slower when idle. Medians, docs/LOG.md. Read when torch is loaded, hence here.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
