"""Activation functions by name: what they compute, the module that computes them, and their properties."""
