"""Tables of real held-out losses that searches are replayed on, cached under `runs/benchmarks/search/`.

supernets   K SuperLMs of the default teacher and text, trained as the quick start trains them
texts       students of a shipped space x held-out texts: what races are replayed on
free        students with free layers (each skipped, or with a width of its own): what samplers are replayed on
volume      the hypervolume after each evaluation of a replayed search
"""
