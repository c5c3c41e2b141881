"""The mathematics: scalars in, scalars out, and the compilers that lift them.

Rules of this room, each held by a test: it never imports fastrobust; a formula stands here once, in Python, over
`primitives` only; no libm, no fastmath, no contraction; float32 stays float32.  Import it as ``fastrobust.kernels``.
"""
