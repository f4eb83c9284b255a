"""Fine-tuning on tasks, with several seeds, and the score of every depth.

In: a pretrained model and a `FinetuneConfig`. Out: OUTPUT/TASK with the best seed's model, results.json and a
picture, the mean over tasks, and predictions for GLUE's server.
"""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
