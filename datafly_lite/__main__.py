"""`python -m datafly_lite`."""

from datafly_lite.cli import main

if __name__ == "__main__":
    main(prog_name="datafly-lite")
