"""How much memory there is."""

import re
from pathlib import Path

CGROUP = '/sys/fs/cgroup'
CGROUP_LIMITS = (
    (f'{CGROUP}/memory.max', f'{CGROUP}/memory.current'),
    (f'{CGROUP}/memory/memory.limit_in_bytes', f'{CGROUP}/memory/memory.usage_in_bytes'),
)


def free_memory() -> int | None:
    """Bytes that the machine, the container and `ulimit -v` leave; None where it is not known."""
    known = [_free_of_machine(), _free_of_process(), *map(_free_of_cgroup, CGROUP_LIMITS)]
    return min((free for free in known if free is not None), default=None)


def _free_of_machine() -> int | None:
    free = _number_in('/proc/meminfo', 'MemAvailable')
    return free * 1024 if free is not None else None


def _free_of_process() -> int | None:
    """What `ulimit -v` leaves; None without a limit."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = _number_in('/proc/self/status', 'VmSize')
    return max(limit - used * 1024, 1) if limit != resource.RLIM_INFINITY and used else None


def _free_of_cgroup(files: tuple[str, str]) -> int | None:
    try:
        limit, used = (Path(file).read_text(encoding='ascii').strip() for file in files)
        return max(int(limit) - int(used), 1)
    except (OSError, ValueError):  # no such group, or the limit is "max"
        return None


def _number_in(file: str, key: str) -> int | None:
    try:
        text = Path(file).read_text(encoding='ascii')
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(rf'^{key}:\s*(\d+)', text, re.MULTILINE)
    return int(found[1]) if found else None
