"""Runs: from a recipe to a trained network, its checkpoints and its report."""
