"""Search spaces as values: students, sub-spaces, their axes and files; no torch."""
