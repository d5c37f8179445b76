"""Which model answers, and the UIDs of what is made with it."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydicom.uid import UID

MANUFACTURER = "hemtrace"
RESEARCH_MARK = "Research use only. Not a medical device, not for diagnosis."
SYNTHETIC_MARK = "SYNTHETIC: the model was trained on synthetic images, never on patients."


@dataclass(frozen=True)
class ModelIdentity:
    """The model that made a prediction, in so far as its results depend on it.

    Attributes
    ----------
    name
        Such as `efficientnet_b4`.
    version
        Of hemtrace.
    sha256
        Of the model file, 64 hexadecimal digits.
    synthetic
        Whether it was trained on the phantom.
    trained_on
        What it was trained on, in a sentence.
    slice_thresholds
        Label -> the operating point's threshold of slices; None where the point is not estimable.
    region_threshold
        Heat, within 0..1 of a slice's hottest point, from which on a pixel belongs to a region.
    size
        Side of the network's pictures, pixels: the grid of regions and their areas.
    """

    name: str
    version: str
    sha256: str
    synthetic: bool
    trained_on: str
    slice_thresholds: Mapping[str, float | None] = field(default_factory=dict)
    region_threshold: float = 0.5
    size: int = 256

    @property
    def marks(self) -> tuple[str, ...]:
        """What has to be said beside every result."""
        return (RESEARCH_MARK, SYNTHETIC_MARK) if self.synthetic else (RESEARCH_MARK,)

    @property
    def device_uid(self) -> UID:
        """UID of the observing device: this model in this version of hemtrace."""
        return derive_uid("device", self.version, self.sha256)

    def recipe(self, point: str, instances: Sequence[str], option: str) -> tuple[str, ...]:
        """List all that the results of some instances, at a point and with options, depend on."""
        thresholds = [
            f"{label}={value!r}" for label, value in sorted(self.slice_thresholds.items())
        ]
        return (
            self.version,
            self.sha256,
            point,
            option,
            *thresholds,
            f"{self.region_threshold!r} {self.size}",
            *sorted(instances),
        )


def derive_uid(*parts: str) -> UID:
    """Make the same UID of the same parts, on every machine (PS3.5 B.2: UUID-derived).

    Parts are told apart: ("ab", "c") gives another UID than ("a", "bc").
    """
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    # Version 8 of RFC 9562: a UUID whose bits its maker chose.
    bits = int.from_bytes(digest[:16], "big")
    bits = bits & ~(0xF << 76) | 0x8 << 76
    bits = bits & ~(0x3 << 62) | 0x2 << 62
    return UID(f"2.25.{uuid.UUID(int=bits).int}")
