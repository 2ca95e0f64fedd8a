"""Rules of the family generalisation."""
