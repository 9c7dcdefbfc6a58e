"""`python -m clipwatch` is the command `clipwatch`."""

from clipwatch.cli import main

if __name__ == "__main__":
    main(prog_name="clipwatch")
