"""`robustcheck audit`: the accuracy of a model as it is, at each error probability and resolution."""

from __future__ import annotations

from typing import Any

import click

from robustcheck.cli.study_options import (
    base_study,
    out_folder,
    run_and_report,
    states_a_study,
    study_file,
    study_options,
)
from robustcheck.errors import UsageError


@click.command()
@click.argument("model")
@study_options("robustcheck-audit", default_jobs=1)
@click.pass_context
def audit(context: click.Context, /, model: str, **params: Any) -> int:
    """Measure MODEL as it is behind a sensor: no swap, no training.

    MODEL is an .onnx or .pt2 file, torchvision:NAME, timm:NAME, architecture:NAME(...), package.module:factory, a
    shipped model (robustcheck models list) or the recipe of a swapped one. Image classification only for now. A study
    file (.toml) in its place states all that the options do but where the data lie and how it is run.

    \b
    Examples:
      robustcheck audit digits-convnet
      robustcheck audit digits-convnet --sensor adc-4bit --bits 2 --bits 4 --bits 8 --ep 0.1:0.9:9
      robustcheck audit net.onnx --data folder:photos --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
      robustcheck audit torchvision:resnet18 --weights resnet18.safetensors --data folder:photos --resize 224x224
      robustcheck audit my_package.net:build --weights net.pt --data npz:data.npz --json
    """
    from robustcheck.study.plan import Study

    if states_a_study(model):
        study = study_file(context, model)
        if study.kind != "audit":
            raise UsageError(f"{model}: expected a study of kind audit, got {study.kind}; use robustcheck compare")
        return run_and_report(params | {"out": out_folder(context, params["out"], study)}, study)
    study = Study.create(kind="audit", **base_study(params, model))
    return run_and_report(params | {"out": out_folder(context, params["out"], study)}, study)
