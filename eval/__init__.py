"""Fine-tuning on GLUE and what it shows about depth.

`finetune` trains a pretrained model on tasks and scores every depth 0..L in one pass over the validation data;
`compress` cuts a fine-tuned model at the smallest depth within a tolerance; `report` draws the depth curves of any
number of runs into one page. User mistakes raise `EvalError`. Metrics go to a `Tracker` that the caller hands in.
"""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
