"""What the READMEs show of the results: tables, a plot, and the goals."""
