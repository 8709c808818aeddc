"""A seccomp filter for the process that runs foreign code: it can read, compute and answer.

A worker loads this file by itself: the standard library only.  What is refused raises
PermissionError in Python: another process or program, a socket, tracing, any change to the disk.
Namespaces keep the code away from files and the network; the filter keeps it to its one process,
so that it cannot touch the worker that started it, and nothing is left when that one is killed.
Numbers are from Linux `arch/x86/entry/syscalls/syscall_64.tbl` and
`include/uapi/asm-generic/unistd.h`; cBPF as in `Documentation/userspace-api/seccomp_filter.rst`.
"""

import ctypes
import errno
import platform
import struct
import sys

# name: (x86-64, arm64); None where the machine does not have it
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # another process, another program
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    # a look or a hand into another process: its memory, its descriptors, its limits, its priority
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "tkill": (200, 130), "kcmp": (312, 272), "setpriority": (141, 140),
    "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274), "ioprio_set": (251, 30), "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    # what outlives the process: sockets, shared memory, queues, keys, files
    "socket": (41, 198), "socketpair": (53, 199), "shmget": (29, 194), "msgget": (68, 186),
    "semget": (64, 190), "mq_open": (240, 180), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219),
    # a change to the disk
    "unlink": (87, None), "unlinkat": (263, 35), "rmdir": (84, None), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "creat": (85, None), "mkdir": (83, None),
    "mkdirat": (258, 34), "mknod": (133, None), "mknodat": (259, 33), "link": (86, None),
    "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "truncate": (76, 45),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16), "openat2": (437, 437),
    # doors of the kernel that no Python function needs
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsmount": (432, 432), "mount_setattr": (442, 442), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "personality": (135, 92),
    "setsid": (112, 157), "setpgid": (109, 154),
}  # fmt: skip
OPEN, OPENAT = (2, None), (257, 56)
TO_WRITE = 0o1 | 0o2 | 0o100 | 0o1000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC
CLONE, CLONE3 = (56, 220), (435, 435)
SELF_ONLY = {"kill": (62, 129), "tgkill": (234, 131)}  # the first argument is a process
PRLIMIT = (302, 261)  # 0 is the process itself
FCNTL = (72, 25)
# F_SETOWN, F_SETSIG, F_SETOWN_EX: any signal to any process by way of a pipe
TO_OTHERS = (8, 10, 15)

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH
X32 = 0x40000000
CLONE_THREAD = 0x10000

_LOAD, _EQUAL, _AT_LEAST, _HAS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _MACHINE, _ARGUMENT = 0, 4, 16  # where they stand in seccomp_data
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_REFUSE, _UNKNOWN = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_NO_NEW_PRIVILEGES, _DUMPABLE, _SECCOMP, _FILTER = 38, 4, 22, 2


_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def available() -> bool:
    """Whether this machine's numbers are known, and its kernel takes filters."""
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        return False
    # asked for a filter at no address, a kernel that takes some says that the address is bad
    refused = _libc.prctl(_SECCOMP, ctypes.c_ulong(_FILTER), None, None, None)
    return refused == -1 and ctypes.get_errno() == errno.EFAULT


def instructions(machine: str, pid: int) -> list[tuple[int, int, int, int]]:
    """The filter for one process, as cBPF: code, jump if true, jump if false, value."""
    column, arch = MACHINES[machine]
    listed = [
        (_LOAD, 0, 0, _MACHINE),
        (_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, X32),
        (_RETURN, 0, 0, _REFUSE),
        (_EQUAL, 0, 1, CLONE3[column]),
        (_RETURN, 0, 0, _UNKNOWN),  # the C library then takes clone, whose flags can be seen
        *_if_argument(CLONE[column], _HAS, CLONE_THREAD),
        *_if_argument(PRLIMIT[column], _EQUAL, 0),
    ]
    listed += [(_EQUAL, 0, 2 * len(TO_OTHERS) + 2, FCNTL[column]), (_LOAD, 0, 0, _ARGUMENT + 8)]
    for command in TO_OTHERS:
        listed += [(_EQUAL, 0, 1, command), (_RETURN, 0, 0, _REFUSE)]
    listed += [(_RETURN, 0, 0, _ALLOW)]
    for number, place in ((OPEN[column], 1), (OPENAT[column], 2)):
        if number is not None:
            listed += [
                (_EQUAL, 0, 4, number),
                (_LOAD, 0, 0, _ARGUMENT + 8 * place),
                (_HAS, 0, 1, TO_WRITE),
                (_RETURN, 0, 0, _REFUSE),
                (_RETURN, 0, 0, _ALLOW),
            ]
    for numbers in SELF_ONLY.values():
        listed += _if_argument(numbers[column], _EQUAL, pid)
    for numbers_or_none in REFUSED.values():
        number = numbers_or_none[column]
        if number is not None:
            listed += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    return [*listed, (_RETURN, 0, 0, _ALLOW)]


def _if_argument(number: int, test: int, value: int) -> list[tuple[int, int, int, int]]:
    """Allow a call whose first argument passes the test, refuse it otherwise."""
    return [
        (_EQUAL, 0, 4, number),
        (_LOAD, 0, 0, _ARGUMENT),
        (test, 0, 1, value),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]


def hide_memory() -> None:
    """Keep other processes of this user from reading or tracing this one."""
    _prctl(_DUMPABLE, 0)


def restrict(pid: int) -> None:
    """Put the filter on this process, whose id is `pid`; nothing takes it off again.

    Raises:
        OSError: the kernel does not take it.
    """
    packed = b"".join(struct.pack("HBBI", *line) for line in instructions(platform.machine(), pid))
    buffer = ctypes.create_string_buffer(packed, len(packed))
    program = _Program(len(packed) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    _prctl(_NO_NEW_PRIVILEGES, 1)
    _prctl(_SECCOMP, _FILTER, ctypes.byref(program))


def _prctl(option: int, *arguments: object) -> None:
    padded = [*arguments, *[0] * (4 - len(arguments))]
    wide = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in padded]
    if _libc.prctl(option, *wide) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}) failed")
