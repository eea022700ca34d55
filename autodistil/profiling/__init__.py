"""What students cost on a device, measured: latency, peak memory and file size, as tables that can be carried around.

`table` and `setting` need neither torch nor a runtime.
"""
