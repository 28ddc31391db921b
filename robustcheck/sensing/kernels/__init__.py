"""The fused converter kernel: a reference in torch, compiled loops for the CPU, and Triton for CUDA."""
