"""Compile an experiment for an accelerator that this machine does not have, and say what it needs.

Nothing here runs on an accelerator: memory, FLOPs and bytes are what the compiler says of the
program, times are estimates made from them.
"""
