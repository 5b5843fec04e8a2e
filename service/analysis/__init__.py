"""Routes that say more of a model than its answers: why, how sure, and how good it is."""
