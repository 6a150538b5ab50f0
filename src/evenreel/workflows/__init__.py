"""The use cases as functions with no terminal in them: one room for each."""
