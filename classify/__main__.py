"""`classify`, or `python -m classify`: see `classify.command`."""

from __future__ import annotations

from classify.command import main

if __name__ == "__main__":
    main()
