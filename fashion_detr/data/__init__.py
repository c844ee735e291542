"""Data sets as the model trains and is judged on them: Fashionpedia's format, synthetic ensembles, augmentation."""
