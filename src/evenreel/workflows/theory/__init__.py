"""The source papers' claims as rows, and the corrected bounds measured on a real run of a model."""
