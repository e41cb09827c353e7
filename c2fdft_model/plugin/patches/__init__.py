"""Workarounds for BasicSR's faults: one file per patch, all of them listed in `table`.

A patch changes nothing where BasicSR does not need it. BasicSR and torch are imported inside the
functions: the patches before `import basicsr` must run first, and the doctor lists all patches even
where one of the two cannot be imported.
"""
