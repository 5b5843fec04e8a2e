"""Image decoding in a pool of killable processes."""
