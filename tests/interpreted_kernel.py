"""Runs the Triton kernels on CPU tensors in Triton's interpreter: `python interpreted_kernel.py CASES RESULTS`.

A process of its own, with TRITON_INTERPRET=1 in its environment: Triton reads that when it is imported.
"""

import sys

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter

from robustcheck.sensing.kernels import cuda


def convert_bfloat16(values, source, target, _mode):
    # The interpreter cuts a float32 off where a GPU rounds it to the nearest bfloat16 (`cvt.rn`), ties to even.
    if target is tl.bfloat16:
        assert source is tl.float32
        return torch.from_numpy(np.array(values)).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    assert (source, target) == (tl.bfloat16, tl.float32)
    return values.astype(np.uint32) << np.uint32(16)


def main(cases, results):
    interpreter._convert_float = convert_bfloat16
    torch.save([getattr(cuda, name)(*arguments, **options) for name, arguments, options in torch.load(cases)], results)


if __name__ == "__main__":
    main(*sys.argv[1:])
