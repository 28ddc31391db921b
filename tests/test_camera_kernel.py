"""The compiled loops of the camera against their definition in torch, and their independence of how they are run."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from robustcheck.sensing.deviates import deviates
from robustcheck.sensing.kernels import camera_cpu, camera_reference, cpu
from robustcheck.sensing.kernels.camera_reference import Pixel
from robustcheck.sensing.random import random_words, stream_key

SHOT, READ = stream_key(1, "test", "shot"), stream_key(1, "test", "read")
PIXEL = Pixel(
    white_e=4000.0,
    dark_e=1.3,
    full_well_e=8180.0,
    read_noise_e=3.0,
    prnu=0.01,
    dsnu_e=2.0,
    gain_dn_per_e=0.47,
    black_dn=256.0,
    max_code=4095,
    noisy=True,
)
PIXELS = {
    "bright": PIXEL,
    "dim": replace(PIXEL, white_e=40.0),
    "dark": replace(PIXEL, white_e=2.0, dark_e=0.0),
    "at the well": replace(PIXEL, white_e=8180.0, gain_dn_per_e=0.4),
    "at the converter's end": replace(PIXEL, white_e=8180.0, gain_dn_per_e=0.6),
    "few bits": replace(PIXEL, gain_dn_per_e=0.47 / 256, black_dn=1.0, max_code=15),
    "finely read": replace(PIXEL, read_noise_e=1.5),
    "dim and finely read": replace(PIXEL, white_e=40.0, read_noise_e=1.5),
    "dark and finely read": replace(PIXEL, white_e=2.0, dark_e=0.0, read_noise_e=1.5),
    "finely read at the well": replace(PIXEL, white_e=8180.0, gain_dn_per_e=0.4, read_noise_e=1.5),
    "no read noise": replace(PIXEL, read_noise_e=0.0),
    "noise-free": replace(PIXEL, noisy=False),
}
SHAPES = [(2, 3, 5, 7), (3, 1, 1, 1), (2, 1, 33, 41), (40, 1, 3, 3), (2, 3, 40, 32)]


def images(shape, dtype=torch.float32, spread=1.2):
    x = np.random.default_rng(0).random(shape) * spread - (spread - 1) / 2
    return torch.tensor(x, dtype=torch.float32).to(dtype)


def arguments(x, pixel):
    ids = torch.arange(len(x)) + 2**35
    generator = np.random.default_rng(1)
    maps = {
        name: torch.tensor(generator.standard_normal(x[0].numel()), dtype=torch.float32)
        for name in ("response", "dark")
    }
    rows = torch.tensor(generator.standard_normal((len(x), x.shape[2])), dtype=torch.float32)
    draws = torch.arange(len(x)) + 2**32 - 50
    return (x, pixel, SHOT, READ, ids, draws), {**maps, "rows_e": rows, "keep_mask": True}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", PIXELS)
@pytest.mark.parametrize("output", ["srgb", "codes", "linear"])
def test_the_loops_equal_the_reference(shape, name, output):
    given, named = arguments(images(shape), PIXELS[name])
    fast, fast_mask = camera_cpu.sense(*given, **named, output=output)
    slow, slow_mask = camera_reference.sense(*given, **named, output=output)
    # torch rounds some square roots the other way; then a count on its edge may change by one.
    allowed = 3 + fast.numel() // 500
    assert (~torch.isclose(fast, slow, rtol=0, atol=2e-7)).sum() <= allowed
    assert (fast_mask != slow_mask).sum() <= 1
    one = {"codes": 1.0, "linear": PIXELS[name].share_per_dn, "srgb": 13 * PIXELS[name].share_per_dn}[output]
    assert (fast - slow).abs().max() <= 1.001 * one * max(1.0, PIXELS[name].gain_dn_per_e)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("output", ["srgb", "codes"])
def test_other_dtypes_give_the_float32_result_rounded(dtype, output):
    x = images((2, 3, 9, 11), dtype)
    given, named = arguments(x, PIXEL)
    out, mask = camera_cpu.sense(*given, **named, output=output)
    single, single_mask = camera_cpu.sense(x.float(), *given[1:], **named, output=output)
    assert out.dtype == dtype
    assert torch.equal(out, single.to(dtype))
    assert torch.equal(mask, single_mask)
    slow, _ = camera_reference.sense(*given, **named, output=output)
    assert slow.dtype == dtype
    assert (slow != out).sum() <= 2


@pytest.mark.parametrize("kernel", [camera_cpu, camera_reference])
def test_no_number_stays_none_and_infinity_is_clipped(kernel):
    x = torch.full((1, 1, 2, 4), 0.5)
    x[0, 0, 0, :3] = torch.tensor([float("nan"), float("inf"), -float("inf")])
    for pixel in (PIXEL, PIXELS["dim"], PIXELS["dim and finely read"]):
        out, mask = kernel.sense(x, pixel, SHOT, READ, torch.tensor([0]), 0, keep_mask=True)
        assert out.isnan().flatten().tolist() == [True] + [False] * 7
        bits = np.unpackbits(mask.numpy(), bitorder="little")
        assert not bits[:3].any()


def test_the_loops_are_those_of_one_thread():
    given, named = arguments(images((6, 3, 64, 64)), PIXELS["dim"])
    before = cpu.set_threads(1)
    try:
        alone, alone_mask = camera_cpu.sense(*given, **named)
        cpu.set_threads(min(2, before))
        together, together_mask = camera_cpu.sense(*given, **named)
    finally:
        cpu.set_threads(before)
    assert torch.equal(alone, together)
    assert torch.equal(alone_mask, together_mask)


@pytest.mark.parametrize("kernel", [camera_cpu, camera_reference])
@pytest.mark.parametrize(("read_noise_e", "stream"), [(1.5, READ), (3.0, SHOT)], ids=["apart", "together"])
def test_read_row_and_map_noise_are_added_where_the_reference_says(kernel, read_noise_e, stream):
    # Without light or dark current nothing is random but what is added after the well.
    pixel = replace(PIXEL, dark_e=0.0, read_noise_e=read_noise_e, gain_dn_per_e=100.0, black_dn=3000.0, max_code=65535)
    x = torch.zeros(2, 2, 3, 5)
    (_, _, _, _, ids, draws), named = arguments(x, pixel)
    codes, _ = kernel.sense(x, pixel, SHOT, READ, ids, draws, **named, output="codes")
    noise = deviates(random_words(stream, ids, draws, 30)).double() * read_noise_e
    rows = named["rows_e"].double()[:, None, :, None].expand(2, 2, 3, 5).reshape(2, 30)
    expected = (noise + rows + named["dark"].double() * 2.0) * 100 + 3000
    assert (codes.reshape(2, 30) - expected).abs().max() <= 0.501


@pytest.mark.parametrize("kernel", [camera_cpu, camera_reference])
def test_a_pixel_near_the_well_changes_no_other(kernel):
    pixel = replace(PIXEL, white_e=8180.0, gain_dn_per_e=0.4)
    x = torch.full((1, 1, 40, 40), 0.5)
    brighter = x.clone()
    brighter[0, 0, 3, 4] = 1.0
    (_, _, _, _, ids, draws), named = arguments(x, pixel)
    plain, mask = kernel.sense(x, pixel, SHOT, READ, ids, draws, **named)
    other, other_mask = kernel.sense(brighter, pixel, SHOT, READ, ids, draws, **named)
    changed = (plain != other).nonzero().tolist()
    assert changed == [[0, 0, 3, 4]]
    assert np.unpackbits((mask ^ other_mask).numpy()).sum() <= 1


@pytest.mark.parametrize("kernel", [camera_cpu, camera_reference])
def test_the_well_holds_what_it_holds_and_read_noise_comes_after(kernel):
    # White is twice the well, so that every pixel but the dark ones is full.
    pixel = replace(PIXEL, white_e=2 * PIXEL.full_well_e, gain_dn_per_e=0.4)
    x = torch.ones(1, 1, 100, 100)
    codes, mask = kernel.sense(x, pixel, SHOT, READ, torch.tensor([3]), 0, output="codes", keep_mask=True)
    assert codes.double().mean().item() == pytest.approx(256 + 0.4 * 8180, abs=4 * 0.4 * 3 / 100)
    assert codes.double().std().item() == pytest.approx((1.2**2 + 1 / 12) ** 0.5, rel=4 / 20_000**0.5)
    assert not mask.any()


@pytest.mark.parametrize("kernel", [camera_cpu, camera_reference])
def test_an_empty_batch_stays_empty(kernel):
    nobody = torch.zeros(0, dtype=torch.int64)
    out, mask = kernel.sense(torch.zeros(0, 3, 4, 4), PIXEL, SHOT, READ, nobody, 0, keep_mask=True)
    assert out.shape == (0, 3, 4, 4)
    assert len(mask) == 0
