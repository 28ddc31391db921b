"""The nine real architectures of the onnx package load and agree, as they ship and with weights that matter."""

import numpy as np
import pytest
import torch
from exports import relative, runtime
from light_models import NAMES, light, ramp, stored_output, with_weights

from robustcheck.networks.loading import load_model
from robustcheck.networks.surgery import find_sites


def probabilities(network, x):
    """The outputs of the file: a softmax that was left away for training is put back."""
    with torch.no_grad():
        return network.final_softmax(network(x))


def test_there_are_nine():
    assert len(NAMES) == 9


@pytest.mark.parametrize("name", NAMES)
def test_agrees_as_it_ships(name):
    model = load_model(str(light(name)))
    x = torch.from_numpy(ramp(name))
    got = probabilities(model.network, x)
    assert relative(got, torch.from_numpy(np.array(stored_output(name)))) <= 1e-5
    assert relative(got, runtime(light(name), x)) <= 1e-5
    assert {site.kind for site in find_sites(model)} == {"relu"}


@pytest.mark.parametrize("name", ["densenet121", "inception_v2", "shufflenet", "squeezenet"])
def test_agrees_with_random_weights(name, tmp_path):
    path = with_weights(name, tmp_path / "model.onnx")
    model = load_model(str(path))
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    got = probabilities(model.network, x)
    assert got.std() > 1e-3, "outputs that do not differ would agree whatever is computed"
    assert relative(got, runtime(path, x)) <= 1e-5
