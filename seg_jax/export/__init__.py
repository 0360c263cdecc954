"""A trained network as one file for other programs, and as a release for other people."""
