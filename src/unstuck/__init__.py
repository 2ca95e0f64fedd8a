"""unstuck: find out why a training run is not learning, fix it, and prove the fix."""

__version__ = "0.1.0"
