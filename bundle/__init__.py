"""The contract between training and serving: what a servable model is on disk and how pixels pass through it.

The path of one picture, and the module that owns each arrow::

    bytes --image--> RGB --geometry--> uint8 [H,W,3] --process--> logits --scores--> labelled scores

and of one model::

    folder --manifest, repository--> verified record --process, worker, runtimes--> a ready process

Importing this package loads neither torch nor tensorflow; each framework lives in a child process only.
"""
