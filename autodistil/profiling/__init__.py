"""What students cost on a device, measured: latency, peak memory and file size, as tables that can be carried around.

`latency_table` and `latency_model` need neither torch nor a runtime; what measures (`runner` and below) also runs where
there are only ONNX Runtime and NumPy.
"""
