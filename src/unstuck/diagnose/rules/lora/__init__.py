"""Rules of the family lora."""
