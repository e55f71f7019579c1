"""Quench: from an ONNX model to a quantized native binary."""
