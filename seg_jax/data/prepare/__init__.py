"""Build data sets from their authors' archives."""
