"""The parts of `benchmarks/fuzz.py`: seeds, mutations, hostile cases, and the guard that an input runs under."""
