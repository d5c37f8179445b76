"""What a file is that is no DICOM file, by its first bytes: a person then knows what to do."""

_BEGINNINGS = {
    b"PK\x03\x04": "a zip that is damaged or lies in another one; unpack it",
    b"PK\x05\x06": "an empty zip",
    b"\x1f\x8b": "packed by gzip; unpack it",
    b"BZh": "packed by bzip2; unpack it",
    b"\xfd7zXZ": "packed by xz; unpack it",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"Rar!": "a rar archive; unpack it",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"%PDF": "a PDF",
}
_TAR, _TAR_PLACE = b"ustar", 257


def name_content(content: bytes) -> str:
    """Say what the bytes are; empty where nothing is known."""
    if not content:
        return "an empty file"
    if content[_TAR_PLACE : _TAR_PLACE + len(_TAR)] == _TAR:
        return "a tar archive; unpack it"
    found = (name for beginning, name in _BEGINNINGS.items() if content.startswith(beginning))
    return next(found, "")
