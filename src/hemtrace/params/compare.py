"""The section `compare`."""

from typing import Any

from pydantic import Field

from hemtrace.params.section import Section


class System(Section):
    """One of the systems that are compared."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$", description="name in the table")
    preset: str | None = Field(None, description="whose section `train` is used, if any")
    train: dict[str, Any] = Field(
        default_factory=dict, description="parameters of `train` that differ from it"
    )


class CompareParams(Section):
    """Other systems, trained and scored on the same slices and the same split, in one table."""

    systems: tuple[System, ...] = Field(
        (),
        description="systems beside the one of `train`: name, preset, train; "
        "`hemtrace use systems` and `hemtrace use scaling` fill the list",
    )
    train: dict[str, Any] = Field(
        default_factory=dict,
        description="parameters of `train` that win over every system's, e.g. {epochs: 1}",
    )
