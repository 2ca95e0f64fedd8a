"""Rules over a `Run`: each answers found, clear or could not check. Nothing in here imports torch."""
