"""The stages of a run, each on an open `RunContext`; `autodistil.pipeline` puts them together."""
