"""A package, so that one browser and one stack serve all tests of this folder."""
