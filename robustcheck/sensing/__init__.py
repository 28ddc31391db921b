"""Sensing: the physical world into digital numbers, with noise from a counter-based generator."""
