"""What a run may learn beside masked tokens: to go without annealed shortcuts, to match a teacher, to end at any depth.

In: an `AnnealConfig`, a `TeacherConfig` and a `DepthSupervision`. Out: the scale of the shortcuts as a function of
progress and the modules that apply it (`anneal`); a frozen teacher and its states (`teacher`); the student with the
projection that is thrown away (`student`); the loss of several depths (`depths`); what they cost (`flops`). Nothing of
it is in a published model.
"""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
