"""Pictures that show none of the classes of a model, to measure what it makes of them."""
