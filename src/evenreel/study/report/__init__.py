"""The report of a study: figures with intervals, tables, plots, findings, one page."""
