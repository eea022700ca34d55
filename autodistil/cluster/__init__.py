"""Work on a Ray cluster, by default the embedded one of this machine. The only package that imports ray."""
