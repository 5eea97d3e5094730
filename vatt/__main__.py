"""`python -m vatt` is the command `vatt`."""

from vatt.commands import entry

if __name__ == "__main__":
    entry()
