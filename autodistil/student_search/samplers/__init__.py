"""Samplers: which student a search asks for next."""
