"""The shapes of what the API tells, as OpenAPI describes them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hemtrace.serve import jobs

DISCLAIMER = "Research use only. Not a medical device, not for diagnosis."


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Health(_Shape):
    """Whether the server is ready to predict."""

    state: Literal["starting", "ready", "failed"]
    version: str = Field(description="of hemtrace")


class Window(_Shape):
    """A grey scale that the model sees."""

    name: str
    centre: float = Field(description="HU")
    width: float = Field(description="HU")


class Point(_Shape):
    """An operating point of the model at the level of studies."""

    name: str
    meaning: str
    threshold: float | None = Field(description="of the calibrated score; null: not estimable")
    sensitivity: float | None = Field(description="reached on the validation patients")
    specificity: float | None = Field(description="reached on the validation patients")
    patients: int = Field(description="of validation")
    positives: int = Field(description="studies of validation with a bleed")
    negatives: int = Field(description="studies of validation without a bleed")
    slice_threshold: float | None = Field(description="of `any` on a slice")


class Model(_Shape):
    """What predicts, and what may be sent to it."""

    name: str
    sha256: str
    trained_on: str
    synthetic: bool = Field(description="trained on computer-made heads, not on patients")
    research_only: Literal[True] = True
    runtime: str
    labels: list[str]
    windows: list[Window]
    points: list[Point]
    default_point: str
    limits: dict[str, float] = Field(description="of an upload")
    sample: bool = Field(description="whether POST /studies/sample gives a study to try")
    version: str = Field(description="of hemtrace")
    disclaimer: str


class Accepted(_Shape):
    """A study was taken; its id is the only way to it."""

    id: str


class Region(_Shape):
    """A connected part of a heat map, in pixels of the volume; positions are edges."""

    top: int
    left: int
    bottom: int
    right: int
    area_mm2: float | None = Field(description="null where the pixel spacing is unknown")
    outline: list[tuple[float, float]] = Field(description="rows and columns of its corners")


class Slice(_Shape):
    """A slice and what the model says of it."""

    place: int = Field(description="in its series, from the lowest slice: 0")
    file: str = Field(description="name that it was sent by")
    frame: int | None = Field(description="within a multi-frame file, from 1")
    z_mm: float | None
    probabilities: dict[str, float | None] = Field(description="calibrated, by label")
    flagged: dict[str, bool | None] = Field(
        description="by label, at the operating point; null where that has no threshold"
    )
    regions: dict[str, list[Region]] = Field(
        description="by label, of flagged slices of the chosen series where a bleed is found"
    )


class Series(_Shape):
    """A series of a study, its slices along the scan."""

    number: int = Field(description="within the answer; names it in addresses")
    description: str
    chosen: bool = Field(description="whether the verdict is of it")
    slices: list[Slice]
    copies: int = Field(description="slices that stand in it a second time, and are not shown")
    volume_ml: dict[str, float | None] = Field(
        description="of the regions, by label; rough, and null where unknown or no bleed is found"
    )
    has_heat: bool = Field(description="whether heat maps can be asked for")
    orientation: str | None = Field(
        pattern="^[LRAPHF]{2}$",
        description="sides of the patient (PS3.3 C.7.6.1.1.1) towards which columns and rows grow, "
        "such as LP; null where the headers do not tell",
    )


class Reason(_Shape):
    """Why there is no answer, or what to be wary of."""

    code: str
    sentence: str
    stops: bool


class Verdict(_Shape):
    """The answer on a study at an operating point."""

    answer: Literal["bleed", "no-bleed", "no-answer"]
    point: str
    probability: float | None
    threshold: float | None
    sensitivity: float | None
    specificity: float | None
    subtypes: dict[str, float | None] = Field(description="highest probability of a slice")
    flagged: dict[str, bool]
    urgency: float = Field(ge=0, le=1, description="order of a worklist")
    reasons: list[Reason]
    sentence: str


class Study(_Shape):
    """A study; who it is of, in the words of its own header."""

    key: str | None = Field(description="pseudonym")
    patient_name: str
    patient_id: str
    study_date: str
    description: str
    verdict: Verdict
    series: list[Series]


class Rejected(_Shape):
    """A file, or frame of one, without a prediction."""

    file: str
    frame: int | None
    reason: str = Field(description="short code")
    meaning: str = Field(description="for a person")


class Progress(_Shape):
    """How far a job is."""

    files: int
    read: int = Field(description="files")
    predicted: int = Field(description="slices")
    mapped: int = Field(description="heat maps that take gradients, made so far")
    maps: int = Field(description="heat maps that take gradients, wanted so far")


class Job(_Shape):
    """A study, or several, that were sent together."""

    id: str
    state: Literal["waiting", "reading", "done", "failed"]
    point: str = Field(description="operating point of the verdicts")
    progress: Progress
    sample: bool = Field(description="a computer-made head that shows how the page works")
    studies: list[Study] = Field(description="the most urgent first; empty until it is done")
    rejected: list[Rejected]
    problem: str | None = Field(description="why it failed")
    kept_minutes: float = Field(description="the server deletes it this long after the last look")
    disclaimer: str

    @classmethod
    def early(cls, job: "jobs.Job", kept_minutes: float) -> "Job":
        """Tell of a job that is not done how far it is."""
        return cls(
            id=job.id,
            state=job.state,
            point="",
            progress=Progress(**job.progress()),
            sample=job.sample,
            studies=[],
            rejected=[],
            problem=None if job.problem is None else str(job.problem["detail"]),
            kept_minutes=kept_minutes,
            disclaimer=DISCLAIMER,
        )
