"""The formulas: scalars in, scalars out, over `arithmetic` alone."""
