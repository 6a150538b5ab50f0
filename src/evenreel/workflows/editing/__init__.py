"""Edits of clips and clips made from text: settings in, files or clips out, with a record to repeat them."""
