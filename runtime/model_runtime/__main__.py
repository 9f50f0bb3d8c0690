"""`python -m model_runtime` serves as the environment says; with arguments it is the command line `model-runtime`."""

import sys

if __name__ == "__main__":
    if len(sys.argv) > 1:
        from .cli import main
    else:
        from .server.program import main
    sys.exit(main())
