"""Blind comparisons by people: pairs, their page, their answers."""
