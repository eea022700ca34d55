"""How far the pick of a search can be trusted: measured, worked out, and said in words."""
