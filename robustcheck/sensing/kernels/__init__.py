"""The fused converter kernel: a reference in torch, and one numba loop for the CPU."""
