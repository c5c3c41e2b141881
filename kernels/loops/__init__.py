"""The kernels: loops around the formulas of `losses`, for CPUs, GPUs and XLA, and how they are launched."""
