"""`python -m deploy.ray.score`: see `deploy.ray.score.command`."""

from __future__ import annotations

from deploy.ray.score.command import main

if __name__ == "__main__":
    main()
