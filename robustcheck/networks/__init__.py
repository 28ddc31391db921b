"""Networks: loading them, finding and swapping their activation functions, and the architectures we ship."""
