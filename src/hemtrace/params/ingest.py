"""The section `ingest`."""

from typing import Literal

from pydantic import Field

from hemtrace.params.section import Section


class Window(Section):
    """A display window: HU at its centre, and its full width."""

    name: str = Field(description="name of the channel, e.g. brain")
    center_hu: float = Field(description="HU shown as mid-grey")
    width_hu: float = Field(gt=1, description="HU from black to white")


DEFAULT_WINDOWS = (
    Window(name="brain", center_hu=40, width_hu=80),
    Window(name="subdural", center_hu=80, width_hu=200),
    Window(name="soft tissue", center_hu=40, width_hu=380),
)


class View(Section):
    """How a slice becomes a picture; carried with the model, so that prediction does the same."""

    windows: tuple[Window, ...]
    size: int
    crop: Literal["none", "head"]
    pixel_mm: float


class IngestParams(Section):
    """Raw DICOM and label CSV -> catalog and windowed uint8 shards."""

    raw: str | None = Field(
        None, description="folder with the unpacked RSNA set; null: the phantom in data/raw"
    )
    images: str = Field(
        "stage_2_train", description="folder under `raw` that holds the DICOM files ('.' for all)"
    )
    labels: str | None = Field(
        "stage_2_train.csv",
        description="label CSV under `raw`, columns ID,Label; null: ingest without labels",
    )
    windows: tuple[Window, ...] = Field(
        DEFAULT_WINDOWS, min_length=1, description="one image channel each"
    )
    size: int = Field(112, ge=32, le=1024, description="side of the square slices, pixels")
    crop: Literal["none", "head"] = Field(
        "head",
        description="head: a square around the head, at `pixel_mm`; none: the whole slice",
    )
    pixel_mm: float = Field(
        2.0,
        gt=0,
        le=10,
        description="side of a pixel for `crop: head`; `size` of them should span 220 mm or more",
    )
    series: Literal["one", "all"] = Field(
        "one", description="of a study with several series: the one that suits best, or all"
    )
    shards: int = Field(4, ge=1, le=10_000, description="shards, each made by a job of its own")
    format: Literal["npy", "parquet"] = Field(
        "npy", description="of the shards: npy is read fastest, parquet (zstd) takes least disk"
    )
    salt_file: str | None = Field(
        None,
        description="file with a secret (16 bytes or more) by which ids of patients, studies and "
        "series are hashed; null: a public salt, enough for data that are pseudonymous already",
    )
    read_seconds: float = Field(
        30, gt=0, description="longest time that a file may take; then it is quarantined"
    )
    read_memory_gb: float = Field(
        2.0, ge=0.5, description="most memory that decoding may take; then it is quarantined"
    )

    @property
    def image_suffix(self) -> str:
        """Suffix of the shards' pictures in this format; their rows end in `.parquet` always."""
        return {"npy": "npy", "parquet": "images.parquet"}[self.format]

    @property
    def slice_bytes(self) -> int:
        """Disk that a slice takes in the shards; zstd makes it 3.5 times smaller, counted as 3."""
        plain = len(self.windows) * self.size**2
        return plain if self.format == "npy" else plain // 3

    @property
    def view(self) -> View:
        """What decides the pictures."""
        return View(windows=self.windows, size=self.size, crop=self.crop, pixel_mm=self.pixel_mm)
