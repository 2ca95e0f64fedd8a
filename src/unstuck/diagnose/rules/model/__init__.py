"""Rules of the family model."""
