"""What a finished run leaves behind: results, report.md, plots and predicted frames."""
