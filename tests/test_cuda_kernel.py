"""The Triton kernels: interpreted against the reference, bit for bit, and compiled for sm_90. No GPU is used."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from robustcheck.errors import InvalidValueError
from robustcheck.sensing.deviates import NOISES
from robustcheck.sensing.kernels import reference

pytest.importorskip("triton")

KEY = (0xF1234567, 0x89ABCDEF)  # both words are negative as int32
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
IDS = torch.tensor([7, 2**31, 2**40 + 5, 2**63 - 1])
DRAWS = torch.tensor([0, 2**32 - 1, 2**31, 3])
DEFAULTS = {"noise_first": True, "noise": "gaussian", "sigma": 0.2, "steps": 15, "low": 0.0, "scale": 1.0}
SPECIALS = torch.tensor(
    [
        float("nan"),
        float("inf"),
        -float("inf"),
        0.0,
        -0.0,
        1.0,
        -1.0,
        1e-40,
        -1e-40,
        3e38,
        0.5 / 3,
        -0.5 / 3,
        0.5,
        2.5 / 3,
    ]
)


def values(*shape, dtype=torch.float32):
    numbers = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape)))
    return (numbers * 0.7 + 0.4).to(dtype)


def converting(x, samples, draws=5, key=KEY, **options):
    return "convert", (x, key, IDS[:samples], draws), DEFAULTS | {"keep_mask": True} | options


def masking(gradient, samples):
    elements = gradient.numel() // max(1, samples)
    packed = torch.randint(0, 256, (samples, -(-elements // 8)), generator=torch.Generator().manual_seed(2))
    return "mask_gradient", (gradient, packed.to(torch.uint8), samples), {}


def cases():
    named = {}
    settings = itertools.product(DTYPES, (True, False), NOISES, (0.0, -1.0))
    for number, (dtype, noise_first, noise, low) in enumerate(settings):
        options = {"noise_first": noise_first, "noise": noise, "low": low, "steps": (1, 3, 15, 255)[number % 4]}
        options |= {"scale": (1.0, 0.37, 12.5)[number % 5 % 3], "sigma": (0.02, 0.31)[number % 2]}
        name = f"{str(dtype)[6:]}-{'aod' if noise_first else 'doa'}-{noise}-from {low:g}"
        named[name] = converting(values(3, 45, dtype=dtype), 3, **options)
    for elements in (1, 3, 7, 8, 1023, 1024, 1025, 4097):
        named[f"{elements} elements"] = converting(values(3, elements), 3, noise_first=elements % 3 == 1)
        named[f"{elements} elements, no mask"] = converting(values(2, elements), 2, low=-1.0, keep_mask=False)
        named[f"{elements} elements of bfloat16"] = converting(values(elements, dtype=torch.bfloat16), 1, low=-1.0)
        named[f"{elements} elements, backward"] = masking(values(3, elements) - 0.4, 3)
    for dtype in DTYPES:
        for noise_first, sigma in itertools.product((True, False), (0.0, 0.2)):
            x = torch.cat((SPECIALS, SPECIALS * 1.1)).to(dtype)
            options = {"noise_first": noise_first, "sigma": sigma, "low": -1.0, "steps": 3}
            named[f"special {str(dtype)[6:]}, {noise_first} {sigma}"] = converting(x, 1, **options)
            named[f"special {str(dtype)[6:]}, {noise_first} {sigma}, unsigned"] = converting(
                x, 1, **options | {"low": 0.0}
            )
        named[f"special {str(dtype)[6:]}, backward"] = masking(SPECIALS.to(dtype), 1)
        named[f"backward {str(dtype)[6:]}"] = masking(values(2, 5, 131, dtype=dtype) - 0.4, 2)
        named[f"no samples of {str(dtype)[6:]}"] = converting(values(0, 5, dtype=dtype), 0)
        named[f"no elements of {str(dtype)[6:]}"] = converting(values(3, 0, dtype=dtype), 3)
        named[f"nothing to mask of {str(dtype)[6:]}"] = masking(values(0, 5, dtype=dtype), 0)
    for first in (4, 1024, 2**31, 2**33, 2**34 - 4100):
        for draws in (2**32 - 1, DRAWS):
            each = "one draw" if isinstance(draws, int) else "a draw each"
            named[f"from element {first}, {each}"] = converting(values(4, 4099), 4, draws=draws, first=first)
    named["rows folded into the batch"] = converting(values(12, 2, 5, 3), 4, draws=DRAWS)
    named["a key of small words"] = converting(values(2, 40), 2, key=(1, 0))
    named["doubles beyond float32"] = converting(torch.tensor([1e300, -1e300, 1e-300, 0.1], dtype=torch.float64), 1)
    return named


CASES = cases()


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interpreted")
    torch.save(list(CASES.values()), folder / "cases.pt")
    script = Path(__file__).parent / "interpreted_kernel.py"
    command = [sys.executable, str(script), str(folder / "cases.pt"), str(folder / "results.pt")]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    root = str(script.parent.parent)
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return dict(zip(CASES, torch.load(folder / "results.pt"), strict=True))


def same_bits(got, expected):
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[got.itemsize]
    number = ~(got.isnan() & expected.isnan())
    return torch.equal(got[number].view(integers), expected[number].view(integers))


@pytest.mark.parametrize("name", CASES)
def test_interpreted_kernels_equal_the_reference_to_the_bit(name, interpreted):
    function, arguments, options = CASES[name]
    got, expected = interpreted[name], getattr(reference, function)(*arguments, **options)
    if function == "mask_gradient":
        got, expected = (got, None), (expected, None)
    assert same_bits(got[0], expected[0])
    assert (got[1] is None) == (expected[1] is None)
    assert got[1] is None or same_bits(got[1], expected[1])


def test_the_cases_cut_and_pass_values(interpreted):
    packed = interpreted["4097 elements"][1]
    passed = sum(bin(byte).count("1") for byte in packed.flatten().tolist())
    assert 0.2 < passed / (3 * 4097) < 0.8
    assert not (packed[:, -1] & 0b11111110).any()  # one element in the last byte


def test_draws_are_checked():
    from robustcheck.sensing.kernels import cuda

    for draws in (-1, 2**32, torch.tensor([0, 2**32]), torch.tensor([0, 1, 2])):
        with pytest.raises(InvalidValueError, match="draw"):
            cuda.convert(values(2, 4), KEY, IDS[:2], draws, **DEFAULTS)


def compiled(kernel, types, constants, *, aligned, options):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    sixteen = [["tt.divisibility", 16]]
    attributes = {
        (place,): sixteen
        for place, (name, kind) in enumerate(signature.items())
        if kind.startswith("*") or (aligned and name == "elements")
    }
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm


def compiled_convert(dtype, elements, aligned, *, noise_first, keep_mask, **changed):
    from robustcheck.sensing.kernels import cuda

    words = dict.fromkeys(("row_bytes", "blocks", "first", "draw", "k0", "k1"), "i32")
    numbers = dict.fromkeys(("inverse", "sigma", "steps", "low", "unit", "added"), "fp32")
    pointers = {"x": f"*{dtype}", "out": f"*{dtype}", "packed": "*u8", "ids": "*i64", "draws": "*i64", "table": "*i64"}
    constants = {"NOISE_FIRST": noise_first, "NOISY": True, "DRAW_EACH": True, "KEEP_MASK": keep_mask}
    return compiled(
        cuda.convert_kernel,
        pointers | {"elements": elements} | words | numbers,
        constants | {"BLOCK": cuda.BLOCK},
        aligned=aligned,
        options=cuda.OPTIONS | changed,
    )


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("noise_first", [True, False])
@pytest.mark.parametrize("dtype", ["fp32", "fp64", "bf16", "fp16"])
def test_convert_compiles_for_sm_90_without_fusing(dtype, noise_first):
    code = compiled_convert(dtype, "i32", True, noise_first=noise_first, keep_mask=noise_first)
    assert "mul.rn.f32" in code["ptx"]  # with a rounding mode of its own a product is never fused
    assert re.search(r"\b(mul|add|sub)\.f32|\bfma\.|\bmad\.[a-z.]*f32", code["ptx"]) is None
    assert "FFMA" not in code["sass"]
    # Numbers too small for a normal float32 are kept; rounding up to an integer alone may take them for 0.
    assert {line.split()[0] for line in code["ptx"].splitlines() if ".ftz" in line} <= {"cvt.rpi.ftz.f32.f32"}
    assert len(re.findall(r"ld\.global\.v4\.b32|ld\.global\.v2\.b64", code["ptx"])) == {"fp32": 2, "fp64": 4}.get(
        dtype, 1
    )
    assert (dtype != "bf16") or "cvt.rn.bf16x2.f32" in code["ptx"]
    assert code["cubin"][:4] == b"\x7fELF"


def test_the_check_for_fused_operations_sees_them():
    code = compiled_convert("fp32", "i32", True, noise_first=True, keep_mask=False, enable_fp_fusion=True)
    assert "FFMA" in code["sass"]


@pytest.mark.parametrize("elements", ["i32", "i64"])
def test_addresses_are_of_64_bits_up_to_the_block(elements):
    code = compiled_convert("fp32", elements, False, noise_first=True, keep_mask=True)
    scalar = re.findall(r"tt\.addptr [^:]*: (!tt\.ptr<\w+>, \w+)", code["ttir"])
    assert len(scalar) >= 4
    assert all(kind.endswith(", i64") for kind in scalar)


@pytest.mark.parametrize("dtype", ["fp32", "fp64", "bf16", "fp16"])
def test_mask_compiles_for_sm_90(dtype):
    from robustcheck.sensing.kernels import cuda

    types = {"gradient": f"*{dtype}", "out": f"*{dtype}", "packed": "*u8"}
    types |= {"elements": "i64", "row_bytes": "i64", "blocks": "i32"}
    code = compiled(cuda.mask_kernel, types, {"BLOCK": cuda.BLOCK}, aligned=True, options=cuda.OPTIONS)
    assert "ld.global.b8" in code["ptx"]
    assert ("f64" in code["ptx"]) == (dtype == "fp64")
