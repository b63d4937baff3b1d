"""Further formats of a released model: GGUF and ONNX, checked before they are committed."""
