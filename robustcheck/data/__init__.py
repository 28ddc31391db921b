"""Data sets: physical samples in [0, 1], labels, stable sample ids, and one split for everything."""
