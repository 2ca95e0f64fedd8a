"""The one training loop and its parts. Importing this package imports no torch; `unstuck.train.run` does."""

import os

# PyTorch's OpenMP threads spin for milliseconds at the end of every operation. Where other processes want the core that
# stalls the update: at load 2-3.5 on two cores 4,400 tokens/s, with a short spin 8,900; nearly idle 32,500 and 38,500.
# No spin at all is 2.7 times slower when idle. Medians of 3, docs/LOG.md. Read when torch is loaded, hence here.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
