"""A made-up recommendation, for tests of what is written about one."""

from robustcheck.recommend.document import Recommendation


def recommendation(verdict="winner", *, model="net.onnx", current="relu"):
    """With gelu as the activation that wins, or ties with the model's own."""
    tie = verdict == "tie"
    steps = {"trials": 10, "networks": 90, "total": 100}

    def option(name, time):
        latency = {"median_us": time, "lower_us": time - 0.1, "upper_us": time + 0.1, "batch": 1}
        shared = {"noisy": 0.9, "clean": 0.95, "parameters": 100, "leads": True, "front": True}
        return {"activation": name, "latency": latency, **shared}

    gain = {"point": "EP 0.5", "current": 0.87, "chosen": 0.9, "difference": 0.03, "lower": 0.01, "upper": 0.05}
    delivered = {
        "files": ["net-gelu.onnx"],
        "seed": 1,
        "learning_rate": 0.001,
        "validation_accuracy": 0.91,
        "same_network": True,
        "sha256": "0" * 64,
        "checked": "run in ONNX Runtime",
    }
    stop = {"activation": "tanh", "seeds": 3, "leader": "gelu", "behind": 0.2, "margin": 0.1, "reason": ""}
    return Recommendation.model_validate(
        {
            "model": model,
            "model_sha256": "0" * 64,
            "data": "digits",
            "sensor": "adc-4bit",
            "points": ["ep=0.5"],
            "target": "onnx",
            "current": current,
            "verdict": verdict,
            "chosen": current if tie else "gelu",
            "candidates": [current, "gelu", "tanh"],
            "left_out": [{"activation": "swiglu", "reason": "halves <b>"}],
            "race": {
                "alpha": 0.05,
                "seeds": 5,
                "validation": {current: [0.9] * 5},
                "stops": [stop],
                "survivors": ["gelu", *([current] if tie else [])],
                "steps": steps,
                "full_grid": steps | {"total": 200},
                "saved": 0.5,
            },
            "options": [option("gelu", 12.0), option(current, 10.0)],
            "latency_problems": {"gelu": "no runtime"},
            "gains": [] if tie else [gain],
            "delivered": None if tie else delivered,
            "command": "robustcheck recommend net.onnx",
        }
    )
