"""Random changes of a batch, each one that scanners or patients make too; labels stay true."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

from hemtrace.params import AugmentParams, Window


@dataclass
class Chance:
    """Draws for a part of a step's slices: the same whatever the number of parts.

    All processes draw for the whole step, and each takes its own part: so two processes train as
    one does.

    Attributes
    ----------
    generator
        On the device of the slices.
    total
        Slices of the step.
    start, stop
        Of these, the part at hand.
    """

    generator: torch.Generator
    total: int
    start: int
    stop: int

    def uniform(self, low: float, high: float, each: int = 1) -> Tensor:
        """Draw float32 (slices of the part, each), evenly between two bounds."""
        shape = (self.total, each)
        draw = torch.rand(shape, generator=self.generator, device=self.generator.device)
        return low + (high - low) * draw[self.start : self.stop]

    def normal(self, *shape: int) -> Tensor:
        """Draw float32 (slices of the part, *shape) of a standard normal distribution."""
        whole = (self.total, *shape)
        draw = torch.randn(whole, generator=self.generator, device=self.generator.device)
        return draw[self.start : self.stop]


class Augment:
    """Mirrors, moves and re-scans a batch, on the device where it lies.

    Parameters
    ----------
    params
        How far each change goes.
    windows
        Of the channels; with slice context they stand three times.
    """

    def __init__(self, params: AugmentParams, windows: Sequence[Window]) -> None:
        self.params = params
        self.widths_hu = torch.tensor([window.width_hu for window in windows])

    def __call__(self, images: Tensor, chance: Chance) -> Tensor:
        """Change each slice of a batch in its own way, its neighbours alike.

        Parameters
        ----------
        images
            uint8 (N, channels, H, W), H = W.
        chance
            The only source of chance.

        Returns
        -------
        float32 (N, channels, H, W) on the scale 0 to 255.
        """
        # Mixed precision would round where each pixel is fetched from: by 1.2 pixels at 380.
        with torch.autocast(images.device.type, enabled=False):
            return self._rescan(self._move(images.float(), chance), chance)

    def _move(self, images: Tensor, chance: Chance) -> Tensor:
        """Mirror, turn, zoom and shift, all in one interpolation."""
        params, count = self.params, len(images)
        moves = (params.flip_horizontal, params.flip_vertical, params.rotate_degrees, params.scale)
        if not any((*moves, params.shift)):
            return images
        reach = params.rotate_degrees
        angle = chance.uniform(-reach, reach)[:, 0].deg2rad()
        zoom = chance.uniform(1 - params.scale, 1 + params.scale)[:, 0]
        # affine_grid's unit is half the side
        shift = chance.uniform(-2 * params.shift, 2 * params.shift, each=2)
        mirror = _signs(params.flip_horizontal, chance)
        flip = _signs(params.flip_vertical, chance)
        cos, sin = angle.cos() / zoom, angle.sin() / zoom
        rows = torch.stack([mirror * cos, -mirror * sin, flip * sin, flip * cos], dim=1)
        matrix = torch.cat([rows.view(count, 2, 2), shift[:, :, None]], dim=2)
        grid = affine_grid(matrix, list(images.shape), align_corners=False)
        # Outside the image there is air, which is black in every window: padding with zeros.
        return grid_sample(images, grid, padding_mode="zeros", align_corners=False)

    def _rescan(self, images: Tensor, chance: Chance) -> Tensor:
        """Vary the reconstruction kernel, the calibration of HU and the noise."""
        params = self.params
        if params.kernel:
            softness = chance.uniform(-params.kernel, params.kernel)[:, :, None, None]
            soft = avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
            images = images + softness * (soft - images)
        if params.shift_hu or params.intensity or params.noise_hu:
            # One shift, gain and noise a slice, seen through every window at its own contrast.
            slices = images.shape[1] // len(self.widths_hu)
            widths_hu = self.widths_hu.to(images.device).repeat(slices)
            levels_per_hu = (255 / widths_hu)[None, :, None, None]
            reach = params.shift_hu
            shift = chance.uniform(-reach, reach)[:, :, None, None]
            gain = chance.uniform(1 - params.intensity, 1 + params.intensity)[:, :, None, None]
            sigma = chance.uniform(0, params.noise_hu)[:, :, None, None]
            noise = chance.normal(slices, *images.shape[2:])  # each slice has noise of its own
            noise = noise.repeat_interleave(len(self.widths_hu), dim=1)
            changed = (images - 127.5) * gain + 127.5 + (shift + sigma * noise) * levels_per_hu
            # Air and bone lie far outside a window and stay black and white whatever the change.
            images = torch.where((images > 0) & (images < 255), changed, images)
        return images.clamp(0, 255)


def _signs(share: float, chance: Chance) -> Tensor:
    return torch.where(chance.uniform(0, 1)[:, 0] < share, -1.0, 1.0)
