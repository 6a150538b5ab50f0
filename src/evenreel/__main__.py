"""`python -m evenreel`, which `accelerate launch -m evenreel` needs."""

import sys

from evenreel.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
