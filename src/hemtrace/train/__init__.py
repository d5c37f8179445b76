"""Training, from the order of the slices to the weights.

Test patients never come here: `fit` takes `TrainSlices` and `ValSlices`, and there is no way to
make either of them from test patients but a split that says so.
"""
