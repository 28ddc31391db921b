"""Builds realistic reports from seeded random numbers, ranked by Tukey's range with SciPy, for tests of renderings."""

import base64
import math
import zlib
from functools import lru_cache
from itertools import combinations

import numpy as np
from scipy.stats import norm, studentized_range, t

from robustcheck.reporting.report import Report

ACTIVATIONS = ("relu", "leaky_relu", "gelu", "silu", "mish", "aptx")
EPS = (0.2, 0.4, 0.6, 0.8)
CLASSES = tuple("0123456789")
SITES = ("features.1", "features.4", "head.1")
GRID = (0.001, 0.003, 0.01)
SLOPE = {"relu": 0.42, "leaky_relu": 0.41, "gelu": 0.27, "silu": 0.28, "mish": 0.29, "aptx": 0.3}
CLEAN = 0.978
EXPOSURES = (0.001, 0.00473, 0.02236, 0.1057, 0.5)
SIGNALS = (0.02, 0.1, 0.4, 1.0)
NUMBERS = (
    ("full_well_e", "8180 electron", "measured", "a measurement of gain 1"),
    ("read_noise_e", "3 electron", "measured", "a measurement of gain 1"),
    ("prnu", "0.01", "assumed", "no source"),
    ("dsnu_e", "0.5 electron", "assumed", "no source"),
)
CAMERA_POINTS = {"daylight": 0.5, "indoor": 0.1057, "dusk": 0.01, "night": 0.0001}
LIDAR_POINTS = {"clear": 1.0, "light-fog": 0.4, "dirty-window": 0.3, "fog": 0.01}


def packed(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(array.tobytes())).decode()


def unpacked(found, samples):
    """Which samples were right, (draws, samples), as the schema of `Predictions.correct` says."""
    bits = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(found.correct)), np.uint8))
    return bits[: found.draws * samples].astype(bool).reshape(found.draws, samples)


@lru_cache
def tukey(k: int, df: int) -> float:
    return float(studentized_range.ppf(0.95, k, df))


def comparison(names: list[str], accuracy: np.ndarray, converged: np.ndarray, samples: int | None) -> dict:
    """accuracy, converged: (activations, seeds)."""
    k, seeds = accuracy.shape
    mean = accuracy.mean(1)
    order = sorted(range(k), key=lambda i: (-mean[i], names[i]))
    pairs, beaten = [], dict.fromkeys(names, 0)
    detectable = needed = None
    if seeds > 1 and k > 1:
        residual = accuracy - mean[:, None] - accuracy.mean(0) + accuracy.mean()
        df = (k - 1) * (seeds - 1)
        sd = math.sqrt((residual**2).sum() / df)
        for i, j in combinations(order, 2):
            width = tukey(k, df) * sd / math.sqrt(seeds)
            difference = mean[i] - mean[j]
            p = k * (k - 1) * float(norm.sf(abs(difference) / sd / math.sqrt(2 / seeds)))
            significant = bool(abs(difference) > width)
            pairs.append(
                {
                    "a": names[i],
                    "b": names[j],
                    "difference": difference,
                    "lower": difference - width,
                    "upper": difference + width,
                    "p_value": min(1.0, max(0.0, p)),
                    "significant": significant,
                    "seeds_needed": seeds_for(difference, sd),
                }
            )
            beaten[names[j]] += significant
        detectable = (tukey(k, df) / math.sqrt(2) + norm.ppf(0.8)) * sd * math.sqrt(2 / seeds)
        gap = mean[order[0]] - mean[order[1]]
        needed = int(min(999, math.ceil(seeds * (detectable / gap) ** 2))) if gap > 0 else None
    rows = []
    for i in order:
        half = t.ppf(0.975, seeds - 1) * accuracy[i].std(ddof=1) / math.sqrt(seeds) if seeds > 1 else None
        within = 1.96 * math.sqrt(mean[i] * (1 - mean[i]) / samples) if samples else None
        rows.append(
            {
                "activation": names[i],
                "accuracy": mean[i],
                "networks": None if half is None else {"lower": mean[i] - half, "upper": mean[i] + half},
                "samples": None if within is None else {"lower": mean[i] - within, "upper": mean[i] + within},
                "per_seed": accuracy[i].tolist(),
                "rank": 1 + beaten[names[i]],
                "converged": int(converged[i].sum()),
            }
        )
    best = names[order[0]]
    leaders = [
        names[i] for i in order if not any(p["significant"] and (p["a"], p["b"]) == (best, names[i]) for p in pairs)
    ]
    return {
        "rows": rows,
        "pairs": pairs,
        "winner": best if k > 1 and len(leaders) == 1 and pairs else None,
        "leaders": leaders,
        "exact_ties": [],
        "detectable_difference": detectable,
        "seeds_needed": needed,
    }


def seeds_for(difference: float, sd: float) -> int | None:
    """Seeds that would show a difference, roughly."""
    wanted = math.ceil(2 * (5 * sd / difference) ** 2) if difference else 1001
    return max(2, wanted) if wanted <= 1000 else None


def point(kind: str, ep: float | None, steps: int) -> dict:
    sigma = None if ep is None else -1 / (2 * steps * norm.ppf(ep / 2))
    return {
        "kind": kind,
        "ep": ep,
        "ep_adc": None if sigma is None else min(0.99, ep + 0.05),
        "sigma": 0.0 if sigma is None else sigma,
        "sigma_steps": 0.0 if sigma is None else sigma * steps,
    }


def camera_point(kind: str, exposure: float, bits: float, *, moved: bool = False) -> dict:
    """Shot and read noise of a sensor of 8,180 electrons at .47 DN/e- and 12 bits, at white."""
    sigma_codes = 0.47 * 2 ** (bits - 12) * math.sqrt(8180 * exposure + 9)
    found = 2 * norm.sf(1 / (2 * sigma_codes))
    return {
        "kind": kind,
        "ep": found,
        "ep_adc": min(0.999, found + 0.01),
        "sigma": sigma_codes / (2**bits - 1),
        "sigma_steps": sigma_codes,
        "exposure": exposure,
        "bits": bits if moved else None,
        "data_ep": 0.9 * found,
        "named": next((name for name, value in CAMERA_POINTS.items() if value == exposure), None),
    }


def lidar_point(signal: float) -> dict:
    noiseless = {"ep": None, "ep_adc": None, "sigma": None, "sigma_steps": None}
    shares = {"signal": signal, "range_ep": 0.9 + 0.09 * (1 - signal), "intensity_ep": 0.7 * signal}
    named = next((name for name, value in LIDAR_POINTS.items() if value == signal), None)
    return {"kind": "signal", **noiseless, **shares, "named": named}


def real_sensor(kind: str, bits: int, vary: str) -> dict:
    """A camera's or a LIDAR's summary."""
    name = "camera-imx477" if kind == "camera" else "lidar-vlp16"
    named = CAMERA_POINTS if kind == "camera" else LIDAR_POINTS
    key = f"{name}/bits at exposure 0.5" if vary == "bits" else name if bits == 12 else f"{name}/{bits} bits"
    return sensor(bits) | {
        "key": key,
        "name": name,
        "title": "Sony IMX477 (Raspberry Pi HQ)" if kind == "camera" else "Velodyne VLP-16",
        "kind": kind,
        "assumed": ["prnu", "dsnu_e", *(f"operating_points.{name}" for name in named)],
        "settings": {"prnu": 0.01},
        "vary": vary if kind == "camera" else None,
        "at_exposure": 0.5 if vary == "bits" else None,
        "device_seed": 0,
        "numbers": [
            {"name": name, "value": value, "kind": "typical", "status": status, "source": source}
            for name, value, status, source in NUMBERS
        ],
        "operating_points": [
            {"name": name, "value": value, "ep": 0.9 if kind == "camera" else None} for name, value in named.items()
        ],
    }


def sensor(bits: int) -> dict:
    steps = 2**bits - 1
    return {
        "key": f"adc-{bits}bit",
        "name": f"adc-{bits}bit",
        "title": f"Generic {bits}-bit converter",
        "profile_sha256": "5e" * 32,
        "steps": steps,
        "bits": float(bits),
        "form": "aod",
        "noise": "gaussian",
        "placement": "sensor",
        "range": None,
        "assumed": ["noise.ep"],
    }


def build(
    kind: str = "compare",
    activations: tuple[str, ...] = ACTIVATIONS,
    eps: tuple[float, ...] = EPS,
    bits: tuple[int, ...] = (3,),
    seeds: int = 5,
    epochs: int = 20,
    seed: int = 0,
    class_names: tuple[str, ...] = CLASSES,
    model: str = "digits-convnet",
    diverge: bool = True,
    precision: float | None = None,
    reached: bool = True,
    sensor_kind: str = "converter",
    exposures: tuple[float, ...] = EXPOSURES,
    signals: tuple[float, ...] = SIGNALS,
    vary: str = "exposure",
    by_ep: bool = False,
) -> Report:
    """A report; of a camera over exposures (or, by_ep, over the EPs that they have), or over bits from 4 to 8."""
    rng = np.random.default_rng(seed)
    audit = kind == "audit"
    if audit:
        activations, seeds = activations[:1], 1
    k, samples, draws = len(activations), 360, 4
    slope = np.array([SLOPE.get(name, rng.uniform(0.26, 0.44)) for name in activations])[:, None]
    shared = rng.normal(0, 0.006, seeds)
    results, training, tuning, predictions = [], [], [], []
    real = sensor_kind != "converter"
    if real and bits == (3,):
        bits = (12,)
    for b in bits:
        converged = np.ones((k, seeds), bool)
        if diverge and not audit and k > 2 and seeds > 1 and b == bits[0]:
            converged[-1, -1] = False
        by_point = {}
        harms = {ep: ep**2.2 * 4 / b for ep in eps}
        stated = {ep: point("ep", ep, 2**b - 1) for ep in eps}
        if sensor_kind == "camera" and vary == "bits":
            harms = {each: (8 - each) / 4 for each in (4.5, 5.5, 6.6, 7.8)}
            stated = {each: camera_point("ep", 0.5, each, moved=True) for each in harms}
        elif sensor_kind == "camera":
            harms = {exposure: 0.3 * math.log10(1 / exposure) for exposure in exposures}
            stated = {each: camera_point("ep" if by_ep else "exposure", each, b) for each in exposures}
        elif sensor_kind == "lidar":
            harms = {signal: 0.6 * math.log10(1 / signal) for signal in signals}
            stated = {signal: lidar_point(signal) for signal in signals}
        for which, ep in [("clean", None), ("quantised", None), *(("noisy", value) for value in harms)]:
            drop = 0 if which == "clean" else 0.02 / b if ep is None else harms[ep] * slope
            accuracy = CLEAN - drop + shared + rng.normal(0, 0.008 if ep else 0.003, (k, seeds))
            by_point[which, ep] = np.clip(np.where(converged, accuracy, 0.1 + 0.02 * rng.random((k, seeds))), 0, 1)
        names = list(activations)
        found = [
            {
                "point": point(which, ep, 2**b - 1) if ep is None else stated[ep],
                "comparison": comparison(names, a, converged, samples * draws),
            }
            for (which, ep), a in by_point.items()
        ]
        for each in found[2:] if precision is not None else ():
            for place, row in enumerate(each["comparison"]["rows"]):
                row["precision"] = {
                    "draws": [5 + 10 * place + network for network in range(seeds)],
                    "draw_error": precision * (0.9 if reached else 3),
                    "reached": reached,
                    "sample_error": 0.026 if row["accuracy"] > 0.9 else 0.031,
                }
        area = None
        if len(harms) > 1:
            at = np.log10(list(harms)) if real and vary != "bits" else np.array(list(harms))
            curve = np.stack([by_point["noisy", value] for value in harms])
            width = np.diff(at)[:, None, None]
            total = ((curve[1:] + curve[:-1]) / 2 * width).sum(0) / (at[-1] - at[0])
            area = comparison(names, total, converged, None)
        said = real_sensor(sensor_kind, b, vary) if real else sensor(b)
        results.append({"model": model, "sensor": said, "points": found, "area": area})
        for i, name in enumerate(activations):
            if audit:
                continue
            trials = [
                {
                    "learning_rate": lr,
                    "validation_accuracy": float(0.9 - 0.03 * abs(math.log10(lr / (0.003 + 0.002 * i)))),
                }
                for lr in GRID
            ]
            best = max(trials, key=lambda trial: trial["validation_accuracy"])["learning_rate"]
            common = {"model": model, "sensor": said["key"], "activation": name, "train_ep": "mixed"}
            tuning.append({**common, "trials": trials, "chosen": best})
            for s in range(seeds):
                end = 0.93 - float(slope[i, 0]) / 4 if converged[i, s] else 0.1
                rise = 1 - np.exp(-np.arange(1, epochs + 1) / (2 + i / 2))
                validation = np.clip(0.1 + (end - 0.1) * rise + rng.normal(0, 0.01, epochs), 0, 1)
                cell = f"{len(training):064x}"
                training.append(
                    {
                        **common,
                        "cell": cell,
                        "seed": s,
                        "learning_rate": best,
                        "epochs": epochs,
                        "best_epoch": int(validation.argmax()),
                        "converged": bool(converged[i, s]),
                        "validation_accuracy": float(validation.max()),
                        "train_loss": [float(2.3 * math.exp(-e / 5)) for e in range(epochs)],
                        "validation_curve": validation.tolist(),
                    }
                )
                predictions.append(
                    {
                        "cell": cell,
                        "point": f"ep={eps[0]:g}",
                        "draws": draws,
                        "correct": packed(np.packbits(rng.random((draws, samples)) < 0.9)),
                    }
                )
    return Report.model_validate(
        {
            "schema_version": 1,
            "kind": kind,
            "title": f"{model} on {', '.join(result['sensor']['key'] for result in results)}",
            "study": "ab" * 32,
            "models": [
                {
                    "key": model,
                    "spec": model,
                    "origin": "shipped",
                    "sha256": "cd" * 32,
                    "weights": "shipped",
                    "parameters": 18_410,
                    "input": {"shape": [1, 8, 8], "range": [0.0, 1.0], "mean": [0.0], "std": [1.0]},
                    "activation": activations[0],
                    "sites": [{"path": path, "kind": "relu", "found": "module", "calls": 1} for path in SITES],
                }
            ],
            "data": {
                "spec": "digits",
                "name": "digits",
                "source": "scikit-learn's digits (UCI, Alpaydin & Kaynak 1998)",
                "sha256": "ef" * 32,
                "classes": class_names,
                "shape": (1, 8, 8),
                "counts": {"train": 1077, "validation": 360, "test": samples},
                "chance": 0.1,
                "split_seed": 0,
                "fixed_test": False,
                "preprocessing": {},
                "notes": [],
            },
            "activations": [
                {
                    "spec": name,
                    "formula": "max(0, x)" if name == "relu" else "x·Φ(x)",
                    "family": "elementwise",
                    "learned": [],
                    "current": index == 0,
                    "replaced": {} if audit else {model: SITES},
                }
                for index, name in enumerate(activations)
            ],
            "policy": {}
            if audit
            else {
                "mode": "scratch",
                "train_ep": "mixed",
                "epochs": epochs,
                "optimizer": "adam",
                "schedule": "cosine",
                "patience": 5,
                "learning_rates": list(GRID),
            },
            "seeds": seeds,
            "draws": draws,
            "precision": precision,
            "results": results,
            "tuning": tuning,
            "training": training,
            "predictions": predictions,
            "sample_ids": packed(np.arange(samples, dtype="<i8")),
            "failures": [],
            "numerics": 1,
            "provenance": {
                "robustcheck": "0.1.0",
                "command": "robustcheck compare digits-convnet --sensor adc-3bit",
                "started": "2025-01-01T10:00:00Z",
                "seconds": 141.2,
                "packages": {"torch": "2.14.1", "numpy": "2.3.1"},
            },
        }
    )
