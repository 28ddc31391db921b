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


def packed(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(array.tobytes())).decode()


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
) -> Report:
    rng = np.random.default_rng(seed)
    audit = kind == "audit"
    if audit:
        activations, seeds = activations[:1], 1
    k, samples, draws = len(activations), 360, 4
    slope = np.array([SLOPE.get(name, rng.uniform(0.26, 0.44)) for name in activations])[:, None]
    shared = rng.normal(0, 0.006, seeds)
    results, training, tuning, predictions = [], [], [], []
    for b in bits:
        converged = np.ones((k, seeds), bool)
        if diverge and not audit and k > 2 and seeds > 1 and b == bits[0]:
            converged[-1, -1] = False
        by_point = {}
        for which, ep in [("clean", None), ("quantised", None), *(("ep", ep) for ep in eps)]:
            drop = 0 if which == "clean" else 0.02 / b if ep is None else ep**2.2 * slope * 4 / b
            accuracy = CLEAN - drop + shared + rng.normal(0, 0.008 if ep else 0.003, (k, seeds))
            by_point[which, ep] = np.clip(np.where(converged, accuracy, 0.1 + 0.02 * rng.random((k, seeds))), 0, 1)
        names = list(activations)
        found = [
            {"point": point(which, ep, 2**b - 1), "comparison": comparison(names, a, converged, samples * draws)}
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
        if len(eps) > 1:
            curve = np.stack([by_point["ep", ep] for ep in eps])
            width = np.diff(eps)[:, None, None]
            total = ((curve[1:] + curve[:-1]) / 2 * width).sum(0) / (eps[-1] - eps[0])
            area = comparison(names, total, converged, None)
        results.append({"model": model, "sensor": sensor(b), "points": found, "area": area})
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
            common = {"model": model, "sensor": f"adc-{b}bit", "activation": name, "train_ep": "mixed"}
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
            "title": f"{model} on {', '.join(f'adc-{b}bit' for b in bits)}",
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
