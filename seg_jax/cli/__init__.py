"""The command line: parsing only, one file a verb."""
