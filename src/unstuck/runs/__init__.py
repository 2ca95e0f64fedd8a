"""What happened in a training run, whatever framework wrote it down. Nothing in here imports torch."""

from unstuck.runs.run import Event, Run, Series, Setting, Source

__all__ = ["Event", "Run", "Series", "Setting", "Source"]
