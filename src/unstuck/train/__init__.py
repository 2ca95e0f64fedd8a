"""The one training loop and its parts. Importing this package imports no torch; `unstuck.train.run` does."""
