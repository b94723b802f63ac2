"""The papers' claims and ours, each with the experiment that checks it: `sideways claims`."""
