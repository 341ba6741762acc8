"""`python -m essa_cli`: the same as the command `essa`."""

from essa_cli.main import main

if __name__ == "__main__":
    main()
