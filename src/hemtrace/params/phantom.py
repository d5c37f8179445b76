"""The section `phantom`."""

from pydantic import Field, model_validator

from hemtrace.params.section import Section, Share


class PhantomParams(Section):
    """Synthetic head CT in the layout of the RSNA set; unused where `ingest.raw` names a folder."""

    patients: int = Field(120, ge=3, description="synthetic patients, one scan each")
    min_slices: int = Field(20, ge=4, description="fewest slices a scan")
    max_slices: int = Field(28, ge=4, description="most slices a scan")
    positive_share: Share = Field(0.45, description="share of patients with a haemorrhage")
    lesion_volume_factor: float = Field(
        12.0,
        ge=0.5,
        le=30,
        description="lesion volumes relative to those measured in real scans (1); enlarged so "
        "that 100 patients and some minutes suffice to learn them",
    )
    fault_share: Share = Field(
        0.02, description="share of files with one of the real set's faults or odd encodings"
    )

    @model_validator(mode="after")
    def _slices_in_order(self) -> "PhantomParams":
        if self.max_slices < self.min_slices:
            raise ValueError("max_slices must be at least min_slices")
        return self
