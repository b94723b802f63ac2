"""The command line: one module for each command.

A command's module stays light: it holds the options, and imports the work when the command runs. Work of more than a
few lines has a module of its own beside the command: `predict.py` has the options, `predict_video.py` the work.
"""
