"""PointNet on range images: each return is a point, seen alone by one network, and the maximum speaks for all.

Qi, Su, Mo and Guibas 2017, arXiv 1612.00593, the vanilla network without its two transformation networks.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import nn

from robustcheck.activations.catalogue import Activation
from robustcheck.activations.catalogue import activation as read_activation
from robustcheck.errors import InvalidValueError
from robustcheck.networks.architectures.parts import check_sizes
from robustcheck.networks.kinds import new_module
from robustcheck.sensing.lidar_geometry import RANGE_SCALE_M, column_azimuths


class PointNet(nn.Module):
    """See `pointnet`, which checks the arguments."""

    directions: torch.Tensor

    def __init__(
        self,
        elevation_deg: tuple[float, ...],
        azimuth_step_deg: float,
        columns: int,
        classes: int,
        shared: tuple[int, ...],
        linear: tuple[int, ...],
        unit_m: tuple[float, float, float],
        column_stride: int,
        activation: Activation,
    ) -> None:
        super().__init__()
        directions = _directions(elevation_deg, azimuth_step_deg, columns) / torch.tensor(unit_m).reshape(3, 1, 1)
        self.register_buffer("directions", RANGE_SCALE_M * directions[None, ..., ::column_stride], persistent=False)
        self.column_stride = column_stride
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        width = 4
        for number, out in enumerate(shared, start=1):
            layers[f"conv{number}"] = nn.Conv2d(width, out, kernel_size=1, bias=False)
            layers[f"norm{number}"] = nn.BatchNorm2d(out)
            layers[f"act{number}"] = new_module(activation)
            width = out
        self.shared = nn.Sequential(layers)
        layers = OrderedDict()
        for number, out in enumerate(linear, start=1):
            layers[f"linear{number}"] = nn.Linear(width, out)
            layers[f"act{number}"] = new_module(activation)
            width = out
        layers["output"] = nn.Linear(width, classes)
        self.head = nn.Sequential(layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 2, beams, columns), range / 128 m and intensity in [0, 1], to (n, classes) logits."""
        seen = images[..., :: self.column_stride]
        ranges, intensity = seen[:, :1], seen[:, 1:]
        points = torch.cat((self.directions * ranges, intensity), dim=1)
        features = self.shared(points)
        # Where nothing came back there is no point. An image without any gives the features 0.
        found = ranges > 0
        features = torch.where(found, features, torch.finfo(features.dtype).min).amax(dim=(2, 3))
        return self.head(torch.where(found.any(dim=3).any(dim=2), features, 0.0))  # type: ignore[no-any-return]


def pointnet(
    *,
    elevation_deg: tuple[float, ...],
    azimuth_step_deg: float,
    columns: int,
    classes: int,
    shared: tuple[int, ...],
    linear: tuple[int, ...],
    unit_m: tuple[float, float, float] = (16.0, 2.0, 1.0),
    column_stride: int = 1,
    activation: str = "relu",
) -> PointNet:
    """A PointNet that turns a range image into points x, y, z and intensity by the LIDAR's own table of beams.

    Takes (n, 2, beams, columns) float tensors in [0, 1], not normalised: range / 128 m, 0 for no return, and intensity.
    Gives (n, classes) logits. Paths are `shared.conv1`, `shared.norm1`, `shared.act1`, …, `head.linear1`, `head.act1`,
    …, `head.output`.

    Args:
        elevation_deg: of each beam, the uppermost first, falling [degrees].
        azimuth_step_deg: between two columns [degrees].
        columns: firings in the window.
        classes: number of logits.
        shared: widths of the layers that see each point alone.
        linear: widths of the hidden layers after the maximum.
        unit_m: the distances along x, y and z that are 1 to the network [m].
        column_stride: every so many columns are looked at.
        activation: a spec of the catalogue.

    Raises:
        InvalidValueError: a width is below 1, a number of the geometry out of range, or no shared layer.

    >>> net = pointnet(
    ...     elevation_deg=(1.0, -1.0), azimuth_step_deg=0.2, columns=4, classes=3, shared=(8, 16), linear=(8,)
    ... )
    >>> net(torch.zeros(5, 2, 2, 4)).shape
    torch.Size([5, 3])
    """
    sizes = {"columns": columns, "classes": classes, "column_stride": column_stride}
    check_sizes(sizes, {"shared": shared, "linear": linear})
    if not shared:
        raise InvalidValueError("shared", expected="at least one width", got=shared)
    if not elevation_deg or not all(-90 <= angle <= 90 for angle in elevation_deg):
        raise InvalidValueError("elevation_deg", expected="an angle a beam, each −90 to 90", got=elevation_deg)
    if not 0 < azimuth_step_deg * columns <= 360:
        raise InvalidValueError("azimuth_step_deg", expected="above 0, at most one turn", got=azimuth_step_deg)
    if len(unit_m) != 3 or not all(0 < unit < math.inf for unit in unit_m):
        raise InvalidValueError("unit_m", expected="three positive distances", got=unit_m)
    wanted = read_activation(activation)
    return PointNet(elevation_deg, azimuth_step_deg, columns, classes, shared, linear, unit_m, column_stride, wanted)


def _directions(elevation_deg: tuple[float, ...], azimuth_step_deg: float, columns: int) -> torch.Tensor:
    """Unit vectors of all firings, (3, beams, columns) float32: x forward, y left, z up."""
    elevation = torch.deg2rad(torch.tensor(elevation_deg, dtype=torch.float64)).unsqueeze(1)
    azimuth = torch.deg2rad(column_azimuths(columns, azimuth_step_deg))
    x, y = elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin()
    return torch.stack((x, y, elevation.sin().expand_as(x))).float()
