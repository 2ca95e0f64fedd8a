"""The main job from end to end on the built-in corpus: a run that is stuck, the cause, one change, and its proof."""
