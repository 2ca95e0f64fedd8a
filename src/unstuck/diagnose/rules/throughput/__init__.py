"""Rules of the family throughput."""
