"""All that belongs to a model beside its weights."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from hemtrace.labels import LABELS
from hemtrace.params import NetworkParams, View, Window


class ModelSpec(BaseModel):
    """All that is needed to use a model's weights, and where they come from.

    Attributes
    ----------
    network
        Architecture, branches, slice context and classifier.
    weights
        A plain sentence on where the weights started, for the report and the model card.
    mean, std
        Of the grey levels, 0 to 1, that the network takes as -1 to 1: what its first weights were
        trained with.
    shift
        What brings the network's logits to the natural prevalence, where it was trained on another
        (`train.sampling`); empty: nothing.
    windows
        Of the slices, in order.
    size
        Side of the square slices, pixels.
    crop, pixel_mm
        Which square of a slice is shown, as in `params.View`.
    labels
        One output each, in order.
    members
        Networks whose probabilities are averaged: one a fold and seed.
    synthetic
        Whether it was trained on the phantom.
    seed, train
        The seed and the `train` section of the parameters.
    git_commit, data_digest
        Of the code and of the slices, labels and partitions that it was trained on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: NetworkParams
    weights: str
    mean: float = 0.5
    std: float = 0.5
    shift: tuple[float, ...] = ()
    windows: tuple[Window, ...]
    size: int
    crop: Literal["none", "head"] = "none"
    pixel_mm: float = 2.0
    labels: tuple[str, ...] = LABELS
    members: int = 1
    synthetic: bool
    seed: int
    train: dict[str, Any]
    git_commit: str
    data_digest: str

    @property
    def view(self) -> View:
        """How a slice becomes a picture."""
        return View(windows=self.windows, size=self.size, crop=self.crop, pixel_mm=self.pixel_mm)

    @property
    def has_context(self) -> bool:
        """Whether the network takes the neighbours of a slice too."""
        return self.network.context != "none"

    @property
    def channels(self) -> int:
        """Channels of the slices that the network is given: windows, of three slices or one."""
        return len(self.windows) * (3 if self.has_context else 1)

    def window_place(self, name: str) -> int:
        """Place of a window among those of a slice.

        Raises
        ------
        ValueError
            If there is none of that name.
        """
        return [window.name for window in self.windows].index(name)
