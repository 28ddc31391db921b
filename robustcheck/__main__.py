"""`python -m robustcheck` is the `robustcheck` command."""

from robustcheck.cli.main import run

if __name__ == "__main__":
    run()
