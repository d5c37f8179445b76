"""What all sections of `params.yaml` have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A section of `params.yaml`; an unknown name in it is an error, not a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)
