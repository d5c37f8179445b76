"""Random changes of a batch, each one that scanners or patients make too; labels stay true."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

from hemtrace.params import TrainParams, Window


class Augment:
    """Mirrors, moves and re-scans a batch, on the device where it lies."""

    def __init__(self, params: TrainParams, windows: Sequence[Window]) -> None:
        self.params = params
        self.widths_hu = torch.tensor([window.width_hu for window in windows])

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change each slice of a batch in its own way.

        Parameters
        ----------
        images
            uint8 (N, windows, H, W), H = W.
        generator
            On the same device; the only source of chance.

        Returns
        -------
        float32 (N, windows, H, W) on the scale 0 to 255.
        """
        moved = self._move(images.float(), generator)
        return self._rescan(moved, generator)

    def _move(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Mirror, turn, zoom and shift, all in one interpolation."""
        params, count = self.params, len(images)
        angle = _around(0, params.rotate_degrees, count, generator).deg2rad()
        zoom = _around(1, params.scale, count, generator)
        # affine_grid's unit is half the side
        shift = _around(0, 2 * params.shift, 2 * count, generator).view(count, 2)
        mirror = _signs(params.flip_horizontal, count, generator)
        flip = _signs(params.flip_vertical, count, generator)
        cos, sin = angle.cos() / zoom, angle.sin() / zoom
        rows = torch.stack([mirror * cos, -mirror * sin, flip * sin, flip * cos], dim=1)
        matrix = torch.cat([rows.view(count, 2, 2), shift[:, :, None]], dim=2)
        grid = affine_grid(matrix, list(images.shape), align_corners=False)
        # Outside the image there is air, which is black in every window: padding with zeros.
        return grid_sample(images, grid, padding_mode="zeros", align_corners=False)

    def _rescan(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Vary the reconstruction kernel, the calibration of HU and the noise."""
        params, count = self.params, len(images)
        if params.kernel:
            softness = _around(0, params.kernel, count, generator)[:, None, None, None]
            soft = avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
            images = images + softness * (soft - images)
        if params.shift_hu or params.intensity or params.noise_hu:
            # One shift, gain and noise a slice, seen through every window at its own contrast.
            levels_per_hu = (255 / self.widths_hu.to(images.device))[None, :, None, None]
            shift = _around(0, params.shift_hu, count, generator)[:, None, None, None]
            gain = _around(1, params.intensity, count, generator)[:, None, None, None]
            sigma = params.noise_hu * torch.rand(
                count, 1, 1, 1, generator=generator, device=images.device
            )
            noise = torch.randn(
                count, 1, *images.shape[2:], generator=generator, device=images.device
            )
            changed = (images - 127.5) * gain + 127.5 + (shift + sigma * noise) * levels_per_hu
            # Air and bone lie far outside a window and stay black and white whatever the change.
            images = torch.where((images > 0) & (images < 255), changed, images)
        return images.clamp(0, 255)


def _around(middle: float, reach: float, count: int, generator: torch.Generator) -> Tensor:
    draw = torch.rand(count, generator=generator, device=generator.device)
    return middle + reach * (2 * draw - 1)


def _signs(chance: float, count: int, generator: torch.Generator) -> Tensor:
    draw = torch.rand(count, generator=generator, device=generator.device)
    return torch.where(draw < chance, -1.0, 1.0)
