"""ONNX files as networks: read and checked, activations found and swapped, trained as torch modules, written back."""
