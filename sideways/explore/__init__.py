"""Seeing the schedule: the explorer, a page to play with, and animated pictures."""
