"""The recommendation: which activation to put into a model, why, and the swapped model as a file."""
