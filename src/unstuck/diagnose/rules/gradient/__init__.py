"""Rules of the family gradient."""
