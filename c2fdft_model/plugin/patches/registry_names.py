"""BasicSR's registries end the program when two projects have an object of the same name."""

import warnings
from typing import Any

from c2fdft_model.plugin.patches.patch import patch, replaces

PREFIX = 'c2fdft/'
names_of_others: list[str] = []  # not reported yet


@patch(
    fault='registering a name twice is an AssertionError, also of two projects',
    upstream='none',
    module='basicsr.utils.registry',
)
def share_names() -> bool:
    """Let the other project keep the name; ours is `c2fdft/NAME`, whichever was there first."""
    from basicsr.utils.registry import Registry

    @replaces(Registry, '_do_register')
    def register_or_share(register, self, name, obj, *suffix):
        full = f'{name}_{suffix[0]}' if suffix and isinstance(suffix[0], str) else name
        present = self._obj_map.get(full)
        if present is None or _is_ours(present) == _is_ours(obj):
            return register(self, name, obj, *suffix)
        ours, theirs = (obj, present) if _is_ours(obj) else (present, obj)
        self._obj_map[full], self._obj_map[PREFIX + full] = theirs, ours
        names_of_others.append(full)
        if theirs is obj:  # ours were registered long ago, and the start-up hook has reported
            warnings.warn(what_is_shared(), RuntimeWarning, stacklevel=4)
        return None

    return True


def what_is_shared() -> str:
    """Which names other projects have, in one line, if that has not been said; else empty."""
    names = sorted(set(names_of_others))
    names_of_others.clear()
    if not names:
        return ''
    return (
        f"{', '.join(names)}: another project's, in BasicSR's registries; those of c2fdft are "
        f'{", ".join(PREFIX + name for name in names)}'
    )


def _is_ours(obj: Any) -> bool:
    return str(getattr(obj, '__module__', '')).startswith(('c2fdft_arch.', 'c2fdft_model.'))
