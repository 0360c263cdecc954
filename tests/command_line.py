"""The command line as a user types it, in this process."""

from seg_jax import __main__ as cli


def run(capsys, *args):
    """Return exit code, standard output, standard error."""
    try:
        code = cli.main([str(arg) for arg in args])
    except SystemExit as exit:
        code = exit.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err
