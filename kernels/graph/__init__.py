"""Formulas as graphs of real numbers: traced, rewritten, differentiated, evaluated.  It knows no loss."""
