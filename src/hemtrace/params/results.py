"""The sections of the stages after training."""

from pydantic import Field

from hemtrace.params.section import Section


class EvaluateParams(Section):
    """Figures on the held-out test patients."""

    clip: float = Field(
        1e-6, gt=0, lt=0.1, description="probabilities are clipped to [clip, 1 - clip] in log loss"
    )
    sensitivity: float = Field(
        0.9, gt=0, lt=1, description="of each label on validation; sets its operating threshold"
    )
    bootstrap: int = Field(
        500, ge=0, description="patient-level bootstrap replicates for the intervals"
    )


class ExplainParams(Section):
    """The Grad-CAM gallery."""

    positives: int = Field(16, ge=0, description="slices with a predicted bleed, with heat map")
    negatives: int = Field(8, ge=0, description="slices without one, shown as they are")
    fewest_cells: int = Field(
        7,
        ge=4,
        description="cells on a side of the heat map; it is taken from the deepest layer that has "
        "as many",
    )


class ReportParams(Section):
    """The page a reviewer reads."""

    title: str = Field("Intracranial haemorrhage on head CT", description="headline")
    quarantine_rows: int = Field(50, ge=0, description="quarantined files listed by name")
