"""SID's networks as ONNX files: written by PyTorch, run by onnxruntime."""
