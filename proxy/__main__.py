"""`python -m proxy` is `backstay`."""

from proxy.cli import main

if __name__ == "__main__":
    main()
