"""Classifiers of timm by name, with random weights or with timm's own, which are read as safetensors only."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from robustcheck.errors import ModelError, UnknownNameError, UsageError
from robustcheck.networks.inputs import InputSpec


def timm_network(name: str, classes: int | None) -> nn.Module:
    """A classifier of timm with random weights, drawn as timm draws them.

    Args:
        name: such as `resnet18`, without the tag of any weights.
        classes: None for as many as timm's own weights have.

    Raises:
        UsageError: timm is not installed, has no such model, or the model has no classes of its own and none are given.
        ModelError: it cannot be built with this number of classes, or gives no classes at all.
    """
    timm = _timm(name)
    _check_name(timm, name)
    own = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
    if classes is None and own is not None and not own.num_classes:
        raise UsageError(
            f"timm:{name}: expected a classifier, got a network for features, which has no classes of its own; give "
            "the number of classes (--classes FILE), and it gets a new head"
        )
    return _built(timm, name, {} if classes is None else {"num_classes": classes})


def timm_pretrained(name: str, tag: str, *, download: bool) -> nn.Module:
    """A classifier of timm with timm's own weights.

    Args:
        name: of the model.
        tag: of the weights, such as `a1_in1k`, or `DEFAULT`.
        download: whether they may be fetched from the Hugging Face hub.

    Raises:
        UsageError: timm is not installed, unknown names, weights that are not there yet without `download`, or that
            exist only as a pickle.
        ModelError: the download fails, or timm cannot use the file.
    """
    timm = _timm(name)
    _check_name(timm, name)
    settings = _weights_settings(timm, name, tag)
    if not settings.num_classes:
        raise UsageError(
            f"timm:{name}: expected weights of a classifier, got {settings.tag}, which has no classes; give the "
            "weights of a classifier that was trained from it, --weights FILE.safetensors with --classes FILE"
        )
    path = _fetched(name, settings, download=download)
    overlay = {"file": str(path), "custom_load": False}
    return _built(timm, f"{name}.{settings.tag}", {"pretrained": True, "pretrained_cfg_overlay": overlay})


def timm_input(network: nn.Module) -> InputSpec:
    """What the model's own data configuration says: size, mean and deviation.

    Args:
        network: as timm built it.
    """
    import timm.data

    settings = timm.data.resolve_model_data_config(network)
    channels, height, width = (int(size) for size in settings["input_size"])
    return InputSpec((channels, height, width), tuple(settings["mean"]), tuple(settings["std"]))


def _timm(name: str) -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise UsageError(
            f"timm:{name}: expected the package timm, found none ({error}); pip install 'robustcheck[timm]'"
        ) from error
    return timm  # type: ignore[no-any-return]


def _check_name(timm: ModuleType, name: str) -> None:
    known = timm.list_models()
    if name in known:
        return
    architecture, _, tag = name.partition(".")
    if tag and architecture in known:
        raise UsageError(f"timm:{name}: expected a model without weights; write timm:{architecture} --weights {tag}")
    raise UnknownNameError("timm model", name, known)


def _built(timm: ModuleType, name: str, options: dict[str, Any]) -> nn.Module:
    try:
        network: nn.Module = timm.create_model(name, **options)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"timm:{name}: cannot be built with {options or 'its defaults'}: {reason}") from error
    if getattr(network, "num_classes", 1) == 0:
        raise ModelError(
            f"timm:{name}: expected a classifier, got a network without classes; robustcheck does image classification "
            "only for now"
        )
    return network


def _weights_settings(timm: ModuleType, name: str, tag: str) -> Any:
    tags = {full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")}
    if tag != "DEFAULT" and tag not in tags:
        raise UnknownNameError(
            f"weights of timm's {name}", tag, {"DEFAULT", *tags} if tags else (), remedy="(or a .safetensors file)"
        )
    settings = timm.models.get_pretrained_cfg(name if tag == "DEFAULT" else f"{name}.{tag}")
    if settings is None or not settings.hf_hub_id:
        raise UsageError(
            f"timm:{name}: the weights {tag} are not on the Hugging Face hub as safetensors; convert them, and give "
            "--weights FILE.safetensors"
        )
    return settings


def _fetched(name: str, settings: Any, *, download: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repository = settings.hf_hub_id
    file = str(settings.hf_hub_filename or "model.safetensors")
    if not file.endswith(".safetensors"):
        file = "model.safetensors"
    try:
        return Path(hf_hub_download(repository, file, local_files_only=not download))
    except Exception as error:
        if not download and isinstance(error, LocalEntryNotFoundError):
            raise UsageError(
                f"timm:{name}: the weights {settings.tag} are not on this machine ({file} of {repository}); allow to "
                "fetch them with --download"
            ) from error
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise UsageError(
                f"timm:{name}: the weights {settings.tag} exist only as a pickle ({repository} has no {file}), which "
                "could run code; convert them, and give --weights FILE.safetensors"
            ) from error
        reason = " ".join(str(error).split())
        raise ModelError(f"timm:{name}: the weights could not be fetched: {reason}") from error
