"""From Python functions to machine code and PTX, and where that is kept.  They know no kernel."""
