"""``python -m callboard.cli``: the command line where its script is not on the path."""

from callboard.cli import main

raise SystemExit(main())
