"""The codes of the report: those of DICOM and SNOMED CT where they exist, else a private scheme.

A wrong public code would say something else in another's database, so only codes that DICOM's own
value sets name, or whose meaning several public value sets agree on, stand here.
"""

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept

from hemtrace.dicom_results.identity import MANUFACTURER, derive_uid

_PRIVATE = "99HEMTRACE"
PRIVATE_SCHEME = CodingSchemeIdentificationItem(
    designator=_PRIVATE,
    name="hemtrace concepts of haemorrhage detection",
    version="1",
    uid=derive_uid("coding scheme", _PRIVATE),
    registry="ISO",
    responsible_organization=MANUFACTURER,
)

# DICOM spells as SNOMED CT does in its US English descriptions.
LABEL_CODES: dict[str, CodedConcept] = {
    "epidural": CodedConcept("EDH", _PRIVATE, "Epidural intracranial hemorrhage"),
    "intraparenchymal": CodedConcept("IPH", _PRIVATE, "Intraparenchymal hemorrhage of brain"),
    "intraventricular": CodedConcept("IVH", _PRIVATE, "Intraventricular hemorrhage of brain"),
    "subarachnoid": CodedConcept("21454007", "SCT", "Subarachnoid intracranial hemorrhage"),
    "subdural": CodedConcept("35486000", "SCT", "Subdural intracranial hemorrhage"),
    "any": CodedConcept("1386000", "SCT", "Intracranial hemorrhage"),
}

PRESENCE = CodedConcept("121052", "DCM", "Presence of property")
PRESENT = CodedConcept("52101004", "SCT", "Present")
ABSENT = CodedConcept("272519000", "SCT", "Absent")
UNDETERMINED = CodedConcept("373068000", "SCT", "Undetermined")

PROBABILITY = CodedConcept("PROB", _PRIVATE, "Calibrated probability of finding")
SLICE_PROBABILITY = CodedConcept("PROB-SLICE", _PRIVATE, "Calibrated probability on image")
STUDY_THRESHOLD = CodedConcept("THR-STUDY", _PRIVATE, "Operating point threshold of study")
SLICE_THRESHOLD = CodedConcept("THR-SLICE", _PRIVATE, "Operating point threshold of image")
SENSITIVITY = CodedConcept("111088", "DCM", "Case Sensitivity")
SPECIFICITY = CodedConcept("111090", "DCM", "Case Specificity")
POINT = CodedConcept("111081", "DCM", "CAD Operating Point Description")
AREA = CodedConcept("42798000", "SCT", "Area")

VERDICT = CodedConcept("121077", "DCM", "Conclusion")
COMMENT = CodedConcept("121106", "DCM", "Comment")
NO_ANSWER = CodedConcept("NO-ANSWER", _PRIVATE, "Reason for no answer")
WARNING = CodedConcept("WARNING", _PRIVATE, "Reason for caution")
RESTRICTION = CodedConcept("RESTRICTION", _PRIVATE, "Restriction of use")
TRAINED_ON = CodedConcept("TRAINED-ON", _PRIVATE, "Training data of algorithm")

NO_UNITS = CodedConcept("1", "UCUM", "no units")
SQUARE_MM = CodedConcept("mm2", "UCUM", "square millimeter")
CT_OF_HEAD = CodedConcept("303653007", "SCT", "CT of head")
HEAT = CodedConcept("HEAT", _PRIVATE, "Class activation, not normalised")
REGION_METHOD = CodedConcept("HEAT-REGION", _PRIVATE, "Region of heat map above threshold")
