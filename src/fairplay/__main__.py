"""`python -m fairplay` is the command line."""

from fairplay.cli.main import main

if __name__ == "__main__":
    main()
