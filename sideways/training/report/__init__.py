"""The outcome of a finished run: results, report.md, plots and predicted frames."""
