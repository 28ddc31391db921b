"""The gate: checks of a report that a pipeline obeys, decided by confidence bounds."""
