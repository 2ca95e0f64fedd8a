"""One file per rule, in the folder of its family."""
