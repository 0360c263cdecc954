"""Read a data set whole: report every problem, and measure its statistics."""
