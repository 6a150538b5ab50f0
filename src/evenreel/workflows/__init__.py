"""The use cases as functions with no terminal in them: edit, demo, doctor."""
