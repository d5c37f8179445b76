"""One picture in every encoding that a tool here can write: seeds of tests and of the fuzzing."""

import copy
import io
import zlib
from collections.abc import Callable
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from conftest import make_dataset, small_head
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

# Written by OpenJPH 0.9.0 (ojph_compress -reversible true) from conftest.small_head(9).
HTJ2K = Path(__file__).parent / "data/small_head_9.j2c"

GDCM_SYNTAXES = {
    "jpeg-lossless": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "jpeg-ls": gdcm.TransferSyntax.JPEGLSLossless,
    "jpeg2000": gdcm.TransferSyntax.JPEG2000Lossless,
    "rle": gdcm.TransferSyntax.RLELossless,
}


def to_bytes(dataset: Dataset) -> bytes:
    """Write a data set as a file with preamble and file meta."""
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return content.getvalue()


def implicit_little(dataset: Dataset) -> bytes:
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return to_bytes(dataset)


def explicit_little(dataset: Dataset) -> bytes:
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return to_bytes(dataset)


def explicit_big(dataset: Dataset) -> bytes:
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    words = np.frombuffer(dataset.PixelData, f"<u{dataset.BitsAllocated // 8}")
    dataset.PixelData = words.byteswap().tobytes()
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated == 16 else "OB"
    # A data set that was read as little endian is not written otherwise: a copy of its elements is.
    whole = Dataset()
    whole.update({element.tag: element for element in dataset})
    whole.file_meta = dataset.file_meta
    return to_bytes(whole)


def deflated(dataset: Dataset) -> bytes:
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return to_bytes(dataset)


def without_preamble(dataset: Dataset) -> bytes:
    """The data set alone, as old archives hold it: implicit, no file meta."""
    content = io.BytesIO()
    pydicom.filewriter.write_dataset(_writer(content), dataset)
    return content.getvalue()


def _writer(content: io.BytesIO) -> pydicom.filebase.DicomBytesIO:
    writer = pydicom.filebase.DicomFileLike(content)
    writer.is_little_endian, writer.is_implicit_VR = True, True
    return writer


def rle(dataset: Dataset) -> bytes:
    dataset.compress(RLELossless, generate_instance_uid=False)
    return to_bytes(dataset)


def jpeg2000(dataset: Dataset) -> bytes:
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    return to_bytes(dataset)


def by_gdcm(name: str) -> Callable[[Dataset], bytes]:
    """Transcode by gdcm, another judge than pydicom's encoders."""

    def transcode(dataset: Dataset) -> bytes:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            before, after = Path(folder) / "a.dcm", Path(folder) / "b.dcm"
            dataset.SOPInstanceUID = pydicom.uid.generate_uid()
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            before.write_bytes(explicit_little(dataset))
            reader = gdcm.ImageReader()
            reader.SetFileName(str(before))
            assert reader.Read()
            change = gdcm.ImageChangeTransferSyntax()
            change.SetTransferSyntax(gdcm.TransferSyntax(GDCM_SYNTAXES[name]))
            change.SetInput(reader.GetImage())
            assert change.Change()
            writer = gdcm.ImageWriter()
            writer.SetFile(reader.GetFile())
            writer.SetImage(change.GetOutput())
            writer.SetFileName(str(after))
            assert writer.Write()
            return after.read_bytes()

    return transcode


LOSSLESS: dict[str, Callable[[Dataset], bytes]] = {
    "implicit-little": implicit_little,
    "explicit-little": explicit_little,
    "explicit-big": explicit_big,
    "deflated": deflated,
    "implicit-little without preamble": without_preamble,
    "rle": rle,
    "jpeg2000": jpeg2000,
    **{f"{name} by gdcm": by_gdcm(name) for name in GDCM_SYNTAXES},
}
# Those that keep all bits of a word, also those that are not stored.
WHOLE_WORDS = [name for name in LOSSLESS if "jpeg" not in name and "gdcm" not in name]


def htj2k() -> bytes:
    """`small_head(9)` in HTJ2K."""
    dataset = make_dataset(small_head(9), PixelRepresentation=0)
    dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.201")
    dataset.PixelData = encapsulate([HTJ2K.read_bytes()])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return to_bytes(dataset)


def jpeg2000_lossy(dataset: Dataset) -> bytes:
    dataset.compress(UID("1.2.840.10008.1.2.4.91"), j2k_psnr=[90], generate_instance_uid=False)
    return to_bytes(dataset)


def multi_frame(datasets: list[Dataset], syntax: UID = ExplicitVRLittleEndian) -> Dataset:
    """An enhanced CT: position, rescale and kind of a frame stand in functional groups alone."""
    whole = copy.deepcopy(datasets[0])
    whole.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    whole.NumberOfFrames = len(datasets)
    for name in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "RescaleIntercept",
        "RescaleSlope",
        "PixelSpacing",
    ):
        delattr(whole, name)
    whole.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([Dataset()])
    shared.PixelMeasuresSequence[0].PixelSpacing = datasets[0].PixelSpacing
    shared.PixelMeasuresSequence[0].SliceThickness = 5
    whole.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for dataset in datasets:
        frame = Dataset()
        frame.PlanePositionSequence = Sequence([Dataset()])
        frame.PlanePositionSequence[0].ImagePositionPatient = dataset.ImagePositionPatient
        frame.PlaneOrientationSequence = Sequence([Dataset()])
        frame.PlaneOrientationSequence[0].ImageOrientationPatient = dataset.ImageOrientationPatient
        frame.CTImageFrameTypeSequence = Sequence([Dataset()])
        frame.CTImageFrameTypeSequence[0].FrameType = dataset.get("ImageType") or whole.ImageType
        frame.PixelValueTransformationSequence = Sequence([Dataset()])
        values = frame.PixelValueTransformationSequence[0]
        values.RescaleIntercept = dataset.RescaleIntercept
        values.RescaleSlope = dataset.RescaleSlope
        values.RescaleType = "HU"
        frames.append(frame)
    whole.PerFrameFunctionalGroupsSequence = Sequence(frames)
    whole.PixelData = b"".join(dataset.PixelData for dataset in datasets)
    whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax == DeflatedExplicitVRLittleEndian:
        whole.file_meta.TransferSyntaxUID = syntax
    elif syntax != ExplicitVRLittleEndian:
        whole.compress(syntax, generate_instance_uid=False)
    return whole


def frames_by_gdcm(datasets: list[Dataset], name: str) -> Dataset:
    """An enhanced CT whose frames gdcm packed one by one: of a whole it changes the rescale."""
    whole = multi_frame(datasets)
    streams = []
    for dataset in datasets:
        packed = pydicom.dcmread(io.BytesIO(by_gdcm(name)(copy.deepcopy(dataset))))
        streams.append(get_frame(packed.PixelData, 0, number_of_frames=1))
    whole.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
    whole.PixelData = encapsulate(streams)
    whole["PixelData"].is_undefined_length = True
    return whole


def pack_frames(encoding: str, datasets: list[Dataset]) -> bytes:
    """An enhanced CT in one of `LOSSLESS`."""
    if encoding.endswith(" by gdcm"):
        return to_bytes(frames_by_gdcm(datasets, encoding.removesuffix(" by gdcm")))
    return LOSSLESS[encoding](multi_frame(datasets))


def make_seeds() -> dict[str, bytes]:
    """A small head in every encoding, for the fuzzing."""
    seeds = {name: encode(make_dataset(small_head(9))) for name, encode in LOSSLESS.items()}
    seeds["htj2k"] = htj2k()
    seeds["jpeg2000-lossy"] = jpeg2000_lossy(make_dataset(small_head(9)))
    frames = [make_dataset(small_head(i)) for i in range(3)]
    seeds["multi-frame"] = to_bytes(multi_frame(frames))
    seeds["multi-frame rle"] = to_bytes(multi_frame(frames, RLELossless))
    return seeds


def deflate_bomb(unpacked: int) -> bytes:
    """A deflated file whose data set unpacks to many zeros."""
    content = deflated(make_dataset(small_head(9)))
    start = content.find(b"\x02\x00\x10\x00UI") + 8
    start += int.from_bytes(content[start - 2 : start], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = bytes(2**20)
    packed = b"".join(packer.compress(zeros) for _ in range(unpacked // len(zeros)))
    return content[:start] + packed + packer.flush()
