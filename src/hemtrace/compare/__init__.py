"""Other systems on the same slices and the same split, scored by the same rules, in one table."""
