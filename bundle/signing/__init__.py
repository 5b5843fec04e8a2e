"""Signs bundles, and checks who has signed one, by the package model-signing (OpenSSF)."""
