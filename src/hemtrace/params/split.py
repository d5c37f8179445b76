"""The section `split`."""

from typing import Literal

from pydantic import Field, model_validator

from hemtrace.params.section import Section


class SplitParams(Section):
    """Patients -> train, val, test; the rest of the two shares trains."""

    val_share: float = Field(0.12, gt=0, lt=1, description="share of patients for validation")
    test_share: float = Field(0.22, gt=0, lt=1, description="share of patients held out")
    shared_pixels: Literal["together", "drop"] = Field(
        "together",
        description="patients who share a pixel-identical slice: kept in one partition, or dropped",
    )

    folds: int = Field(
        1,
        ge=1,
        le=20,
        description="1: one training, validated on `val_share`; more: so many trainings, each "
        "validated on another part of all patients but the test ones",
    )

    @model_validator(mode="after")
    def _train_remains(self) -> "SplitParams":
        if self.val_share + self.test_share >= 0.95:
            raise ValueError("val_share + test_share must leave at least 0.05 for training")
        return self
