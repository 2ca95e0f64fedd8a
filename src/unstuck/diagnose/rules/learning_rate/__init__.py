"""Rules of the family learning_rate."""
