"""Where arXiv 2402.02593 puts analog noise in each of its networks."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PAPER_PLACEMENT: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "paper_convnet": MappingProxyType({"placement": "network", "form": "aod"}),
        "vgg_a": MappingProxyType({"placement": "network", "form": "doa"}),
        "resnet18": MappingProxyType({"placement": "network", "form": "doa"}),
        "vit": MappingProxyType({"placement": "sensor", "form": "doa"}),
    }
)
"""The settings `placement` and `form` of a sensor, by the name of the architecture.

With placement `network`, weights are noised at each use and a DOA stands before each layer; form `aod` has an AOD after
it too, form `doa` has none. With placement `sensor` there is one block, at the image.
"""
