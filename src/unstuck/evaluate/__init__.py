"""Validation loss, perplexity and bits per byte. Importing this package imports no torch; its modules do."""
