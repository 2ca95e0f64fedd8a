"""How results are shown: terminal, and one self-contained HTML file."""
