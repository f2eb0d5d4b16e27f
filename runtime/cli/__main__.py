"""`python -m runtime.cli` is the command `hotloop`."""

from runtime.cli import main

if __name__ == "__main__":
    main()
