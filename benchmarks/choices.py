"""Choices that the contestants of a task share."""

# Relative change of the log-likelihood at which a fit of the sweep, and one of many small fits, ends.
SWEEP_TOL = 1e-6
MANY_TOL = 1e-6

# Data sets that a loop of fits is timed on, of the thousands in the task `many`.
SAMPLE_OF_MANY = 200

# One timed call runs k-means from all of these: single runs differ too much.
KMEANS_SEEDS = range(5)
