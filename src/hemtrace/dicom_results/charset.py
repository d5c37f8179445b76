"""The character set that an object is written in (PS3.3 C.12.1.1.2)."""

from collections.abc import Sequence

from pydicom.charset import python_encoding
from pydicom.dataset import Dataset

UTF8 = "ISO_IR 192"


def set_charset(made: Dataset, wanted: str | list[str] | None) -> None:
    """Let an object be written in the character set of its source, or in UTF-8 where it cannot."""
    del made.SpecificCharacterSet
    if wanted and _holds_all(made, wanted):
        made.SpecificCharacterSet = wanted
    elif wanted or not all(text.isascii() for text in _texts(made)):
        made.SpecificCharacterSet = UTF8


def _holds_all(made: Dataset, charset: str | list[str]) -> bool:
    """Whether every text of an object can be written in a character set."""
    names = [charset] if isinstance(charset, str) else charset
    codecs = [python_encoding[name] for name in names]
    # Escape sequences (ISO 2022) hold what any of the sets holds, text by text, part by part.
    return all(_fits(text, codecs) for text in _texts(made))


def _fits(text: str, codecs: Sequence[str]) -> bool:
    def holds(character: str, codec: str) -> bool:
        try:
            character.encode("ascii" if codec == "iso8859" else codec)
        except UnicodeEncodeError:
            return False
        return True

    return all(any(holds(character, codec) for codec in codecs) for character in set(text))


def _texts(made: Dataset) -> list[str]:
    texts = []
    for element in made:
        if element.VR == "SQ":
            for item in element.value:
                texts.extend(_texts(item))
        elif element.VR in ("LO", "LT", "PN", "SH", "ST", "UC", "UT") and element.value:
            texts.append(str(element.value))
    return texts
