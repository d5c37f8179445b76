"""A frozen model on a second, labelled data set: nothing is fitted, nothing is chosen."""
