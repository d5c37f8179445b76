"""Which sides of the patient the edges of an image lie on (PS3.3 C.7.6.1.1.1)."""

# Left, right, anterior, posterior, head, feet.
OPPOSITE_SIDE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}
# Columns lead to the left, rows to the back: as radiologists look at a head.
USUAL_SIDES = "LP"
